//! Plain nested loops: the fallback for what no other kernel takes. Right, not fast.

use super::kernel::{Kernel, Tiles};
use super::recognise::{Reading, element_of, refuse};
use super::spec::{Count, Element, Fold, LoopsSpec, Nest, Strided};
use bloomery_ir::graph::Node;
use bloomery_ir::ops::reduce::Kind;
use bloomery_ir::target::Refusal;
use bloomery_ir::{DType, Op, TensorType, ValueId};

/// Writes the kernel. A tile is one step of the outermost loop.
pub(crate) fn emit(name: &str, spec: &LoopsSpec) -> Kernel {
    let nests: String = spec.pieces.iter().map(nest).collect();
    let text = format!(
        "/* {name}: plain loops; a tile is one step of the outermost. */\n\
         void {name}(const struct call *c, u32 begin, u32 end)\n{{\n    \
         for (u32 i0 = begin; i0 < end; i0++) {{\n{nests}    }}\n}}\n"
    );
    let count = spec.pieces[0].extents[0];
    Kernel::simple(name, text, Tiles::Rows { count, rows: 1, columns: 1 })
}

fn nest(nest: &Nest) -> String {
    let loops = |range: std::ops::Range<usize>| -> String {
        range.map(|i| format!("for (u32 i{i} = 0; i{i} < {}; i{i}++) ", nest.extents[i])).collect()
    };
    let (outer, inner) = (loops(1..nest.kept), loops(nest.kept..nest.extents.len()));
    let (target, narrow) = (place(&nest.out, ""), narrow(nest.out.element));
    let read: Vec<String> = nest.operands.iter().map(element).collect();
    if nest.fold == Fold::Copy && nest.operands[0].element == nest.out.element {
        return format!("        {outer}{target} = {};\n", place(&nest.operands[0], "const "));
    }
    let (start, step) = match nest.fold {
        Fold::Copy => ("0", format!("sum = {};", read[0])),
        Fold::Sum => ("0", format!("sum += {};", read[0])),
        Fold::Max => ("-__builtin_inff()", format!("sum = sum > {0} ? sum : {0};", read[0])),
        Fold::Product => ("0", format!("sum = fma_f32({}, {}, sum);", read[0], read[1])),
    };
    format!(
        "        {outer}{{\n            f32 sum = {start};\n            {inner}{step}\n            {target} = {narrow}(sum);\n        }}\n"
    )
}

fn element(operand: &Strided) -> String {
    format!("f32_of_{}({})", operand.element.c_name(), place(operand, "const "))
}

fn narrow(element: Element) -> String {
    format!("{}_of_f32", element.c_name())
}

fn place(strided: &Strided, constant: &str) -> String {
    let Strided { view, element, offset, place, strides } = strided;
    let steps = strides.iter().enumerate().filter(|(_, stride)| **stride != 0);
    let terms: String = steps.map(|(i, stride)| format!(" + (u64)i{i} * {stride}")).collect();
    let first = place.map_or(String::new(), |(view, step)| format!(" + (u64)*(const u32 *)c->views[{view}] * {step}"));
    format!("(({constant}{} *)c->views[{view}])[{offset}{first}{terms}]", element.c_name())
}

/// The loops of one operation, its result written to the view `out`.
pub(crate) fn of(reading: &Reading, node: &Node, out: usize) -> Result<LoopsSpec, Refusal> {
    let result = Axes::of(reading, node.results[0], out)?;
    let operand = |i: usize| Axes::of(reading, node.operands[i], reading.row_major(node.operands[i])?);
    let pieces = match &node.op {
        Op::MatMul(op) => {
            let (left, right) = (operand(0)?, operand(1)?);
            let letters =
                op.letters(left.counts.len(), right.counts.len()).map_err(|error| Refusal(error.to_string()))?;
            let summed = letters.left.iter().filter(|letter| !letters.result.contains(letter));
            let order: Vec<&String> = letters.result.iter().chain(summed).collect();
            let count = |letter: &String| match letters.left.iter().position(|other| other == letter) {
                Some(i) => left.counts[i],
                None => right.counts[letters.right.iter().position(|other| other == letter).expect("it is in one")],
            };
            let extents = order.iter().map(|letter| count(letter)).collect();
            let by = |names: &[String]| -> Vec<Option<usize>> {
                order.iter().map(|l| names.iter().position(|other| other == *l)).collect()
            };
            let operands = vec![left.strided(by(&letters.left)), right.strided(by(&letters.right))];
            vec![result.nest(extents, operands, Fold::Product)]
        }
        Op::Reduce(op) => {
            let x = operand(0)?;
            let kept = (0..x.counts.len()).filter(|dim| !op.dims.contains(dim));
            let order: Vec<Option<usize>> = kept.chain(op.dims.iter().copied()).map(Some).collect();
            let extents = order.iter().flatten().map(|&dim| x.counts[dim]).collect();
            let fold = if op.kind == Kind::Sum { Fold::Sum } else { Fold::Max };
            vec![result.nest(extents, vec![x.strided(order)], fold)]
        }
        Op::Transpose(op) => {
            let order = op.order.iter().map(|&dim| Some(dim)).collect();
            vec![result.nest(result.counts.clone(), vec![operand(0)?.strided(order)], Fold::Copy)]
        }
        Op::Broadcast(op) => {
            let rank = result.counts.len();
            let order = (0..rank).map(|dim| dim.checked_sub(op.leading.len())).collect();
            vec![result.nest(result.counts.clone(), vec![operand(0)?.strided(order)], Fold::Copy)]
        }
        Op::Slice(op) => {
            let mut x = operand(0)?.strided((0..result.counts.len()).map(Some).collect());
            x.offset = op.from as usize * x.strides[op.dim];
            vec![result.nest(result.counts.clone(), vec![x], Fold::Copy)]
        }
        Op::Piece(op) => {
            let mut x = operand(0)?.strided((0..result.counts.len()).map(Some).collect());
            let Count { dim, times } = result.counts[op.dim];
            let size = Count { dim, times: times * x.strides[op.dim] };
            x.place = Some((reading.row_major(node.operands[1])?, size));
            vec![result.nest(result.counts.clone(), vec![x], Fold::Copy)]
        }
        Op::Concat(op) => {
            let mut start = 0;
            let mut pieces = vec![];
            for i in 0..node.operands.len() {
                let x = operand(i)?;
                let from = x.strided((0..x.counts.len()).map(Some).collect());
                let mut nest = result.nest(x.counts.clone(), vec![from], Fold::Copy);
                nest.out.offset = start * nest.out.strides[op.dim];
                start += x.counts[op.dim].times;
                pieces.push(nest);
            }
            pieces
        }
        other => return refuse(format!("no kernel does `{}`", other.name())),
    };
    Ok(LoopsSpec { pieces: with_common_tiles(pieces) })
}

/// Pieces share their first loop; where they cannot, they get one of a single step.
fn with_common_tiles(mut pieces: Vec<Nest>) -> Vec<Nest> {
    let first = pieces[0].extents.first().copied();
    let common = pieces.iter().all(|nest| nest.kept > 0 && nest.extents.first().copied() == first);
    for nest in pieces.iter_mut().filter(|_| !common) {
        nest.extents.insert(0, Count::number(1));
        nest.kept += 1;
        nest.out.strides.insert(0, 0);
        nest.operands.iter_mut().for_each(|operand| operand.strides.insert(0, 0));
    }
    pieces
}

/// A row-major tensor: its extents and where a step along each leads.
struct Axes {
    view: usize,
    element: Element,
    counts: Vec<Count>,
    strides: Vec<usize>,
}

impl Axes {
    fn of(reading: &Reading, value: ValueId, view: usize) -> Result<Axes, Refusal> {
        let ty: &TensorType = reading.graph.ty(value);
        // Integers of 32 bits are moved as floats are.
        let element = if ty.dtype == DType::I32 { Element::F32 } else { element_of(ty.dtype)? };
        let counts = ty.extents().map(|extent| reading.count(extent)).collect::<Result<Vec<_>, _>>()?;
        let mut strides = vec![1; counts.len()];
        for i in (1..counts.len()).rev() {
            if counts[i].dim.is_some() {
                return refuse(format!("{ty} has a symbol inside"));
            }
            strides[i - 1] = strides[i] * counts[i].times;
        }
        Ok(Axes { view, element, counts, strides })
    }

    /// This operand in loops whose i-th goes along the dimension `order[i]`, or none of them.
    fn strided(&self, order: Vec<Option<usize>>) -> Strided {
        let strides = order.into_iter().map(|dim| dim.map_or(0, |dim| self.strides[dim])).collect();
        Strided { view: self.view, element: self.element, offset: 0, place: None, strides }
    }

    /// Loops that fill this result.
    fn nest(&self, extents: Vec<Count>, operands: Vec<Strided>, fold: Fold) -> Nest {
        let out = self.strided((0..self.counts.len()).map(Some).collect());
        Nest { extents, kept: self.counts.len(), operands, out, fold }
    }
}
