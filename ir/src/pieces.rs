//! Weight graphs, piece by piece: a range of the result from ranges of the parameters.
//!
//! Weights are large, so a compiler never holds one whole. What only moves elements (slices, reshapes, transposes, a
//! concatenation within one of its parts) stays a view of where they are stored; what is computed is computed in f64 and
//! rounded once, to the type of the result. Which part of an operand a part of a result needs, the operations say
//! themselves ([`OpDef::sharding`](crate::OpDef::sharding)).

use crate::extent::Bindings;
use crate::graph::{Graph, Node, ValueId};
use crate::op::RankContext;
use crate::ops::Op;
use crate::sharding::Rule;
use crate::strided::Strided;
use crate::tensor::{Tensor, write_element};
use crate::types::{DType, Mesh, TensorType};
use std::ops::Range;
use std::sync::OnceLock;

/// A range of one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The dimension.
    pub dim: usize,
    /// The indices kept.
    pub range: Range<usize>,
}

/// What gives a part of the input of a number.
type Parameter<'g, 'a> = Box<dyn Fn(usize, Option<Cut>) -> Strided<'a> + Send + Sync + 'g>;

/// A weight graph being evaluated; threads may ask for pieces at the same time.
pub struct Pieces<'g, 'a> {
    graph: &'g Graph,
    definitions: Vec<Option<usize>>,
    parameter: Parameter<'g, 'a>,
    /// Small values that several pieces need whole, by number: the first who asks computes one, the others wait.
    known: Vec<OnceLock<Tensor>>,
}

/// Elements that are computed with at once, about: as f64 they fit the second cache.
pub const AT_ONCE: usize = 1 << 17;

/// Whether the result is nothing but the parameters' elements elsewhere.
pub fn only_moves(graph: &Graph) -> bool {
    let moves = |op: &Op| matches!(op, Op::Reshape(_) | Op::Slice(_) | Op::Transpose(_) | Op::Concat(_));
    graph.nodes.iter().all(|node| moves(&node.op))
}

fn made<'a>(tensor: &Tensor, dtype: DType) -> Strided<'a> {
    let mut bytes = vec![0; dtype.bytes(tensor.data.len() as u64) as usize];
    tensor.data.iter().enumerate().for_each(|(i, value)| write_element(dtype, &mut bytes, i, *value));
    Strided::made(bytes, dtype, tensor.shape.clone())
}

/// A value, or a part of one.
enum Value<'a> {
    /// As a parameter's elements are stored.
    Stored(Strided<'a>),
    /// Computed, not rounded.
    Made(Tensor),
}

impl<'g, 'a> Pieces<'g, 'a> {
    /// For a verified weight graph; `parameter` gives a part of the input of that number as stored, whose elements are
    /// rounded to the input's type.
    pub fn new(
        graph: &'g Graph,
        parameter: impl Fn(usize, Option<Cut>) -> Strided<'a> + Send + Sync + 'g,
    ) -> Pieces<'g, 'a> {
        let known = graph.types.iter().map(|_| OnceLock::new()).collect();
        Pieces { graph, definitions: graph.definitions(), parameter: Box::new(parameter), known }
    }

    /// The result, or the part of it that `cut` names.
    ///
    /// # Panics
    /// Parameters of other shapes than the graph says.
    pub fn piece(&self, cut: Option<Cut>) -> Strided<'a> {
        let output = self.graph.outputs[0];
        match self.value(output, cut) {
            Value::Stored(view) => view,
            Value::Made(tensor) => made(&tensor, self.graph.ty(output).dtype),
        }
    }

    fn value(&self, value: ValueId, cut: Option<Cut>) -> Value<'a> {
        let Some(node) = self.definitions[value.index()].map(|node| &self.graph.nodes[node]) else {
            return Value::Stored((self.parameter)(value.index(), cut));
        };
        match &node.op {
            Op::Reshape(_) => self.reshape(node, cut),
            Op::Concat(concat) => self.concat(node, concat.dim, cut),
            Op::Transpose(transpose) => {
                let inner = cut.map(|cut| Cut { dim: transpose.order[cut.dim], ..cut });
                match self.value(node.operands[0], inner) {
                    Value::Stored(view) => Value::Stored(view.transposed(&transpose.order)),
                    Value::Made(tensor) => {
                        let shape = transpose.order.iter().map(|&dim| tensor.shape[dim]).collect();
                        Value::Made(self.evaluated(node, &[tensor], shape))
                    }
                }
            }
            Op::Slice(slice) => match (slice.from as usize..slice.to as usize, cut) {
                (kept, Some(Cut { dim, range })) if dim == slice.dim => {
                    let range = range.start + kept.start..range.end + kept.start;
                    self.value(node.operands[0], Some(Cut { dim, range }))
                }
                (range, cut) => within(self.value(node.operands[0], cut), &Cut { dim: slice.dim, range }),
            },
            op if op.def().expr().is_some() || matches!(op, Op::MatMul(_) | Op::Broadcast(_)) => {
                Value::Made(if cut.is_none() { self.whole(node) } else { self.parted(node, cut) })
            }
            _ => {
                let operands: Vec<Tensor> = node.operands.iter().map(|operand| self.tensor(*operand, None)).collect();
                let whole = Value::Made(self.evaluated(node, &operands, self.shape(node.results[0])));
                match cut {
                    Some(cut) => within(whole, &cut),
                    None => whole,
                }
            }
        }
    }

    /// An operation that computes a part of its result from parts of its operands.
    fn parted(&self, node: &Node, cut: Option<Cut>) -> Tensor {
        let types = self.graph.types_of(&node.operands);
        let rule = Rule::of(node.op.def(), &types).expect("such operations have letters");
        let letter = cut.as_ref().map(|cut| &rule.result[cut.dim]);
        let part = |(operand, letters): (&ValueId, &Vec<String>)| {
            let dim = letters.iter().position(|other| Some(other) == letter);
            let part = dim.zip(cut.as_ref()).map(|(dim, cut)| Cut { dim, range: cut.range.clone() });
            self.tensor(*operand, part)
        };
        let operands: Vec<Tensor> = node.operands.iter().zip(&rule.operands).map(part).collect();
        let mut shape = self.shape(node.results[0]);
        if let Some(cut) = &cut {
            shape[cut.dim] = cut.range.len();
        }
        self.evaluated(node, &operands, shape)
    }

    /// All of its result, which is kept when it is small.
    fn whole(&self, node: &Node) -> Tensor {
        let result = node.results[0];
        if self.elements(result) > AT_ONCE {
            return self.put_together(node);
        }
        self.known[result.index()].get_or_init(|| self.put_together(node)).clone()
    }

    /// All of its result, from parts of its operands when they are large.
    fn put_together(&self, node: &Node) -> Tensor {
        let result = node.results[0];
        let values = node.operands.iter().chain(&node.results);
        let largest = values.map(|value| self.elements(*value)).max().unwrap_or(0);
        let shape = self.shape(result);
        match shape.first() {
            Some(&extent) if largest > AT_ONCE => {
                let step = (extent / largest.div_ceil(AT_ONCE)).max(1);
                let ranges = (0..extent).step_by(step).map(|start| start..(start + step).min(extent));
                let rows = ranges.flat_map(|range| self.parted(node, Some(Cut { dim: 0, range })).data);
                Tensor { dtype: self.graph.ty(result).dtype, data: rows.collect(), shape }
            }
            _ => self.parted(node, None),
        }
    }

    fn reshape(&self, node: &Node, cut: Option<Cut>) -> Value<'a> {
        let (operand, mut shape) = (node.operands[0], self.shape(node.results[0]));
        let dtype = self.graph.ty(operand).dtype;
        let Some(cut) = cut else { return reshaped(self.value(operand, None), dtype, shape) };
        match same_dim(&self.shape(operand), &shape, cut.dim) {
            Some(dim) => {
                shape[cut.dim] = cut.range.len();
                reshaped(self.value(operand, Some(Cut { dim, ..cut })), dtype, shape)
            }
            None => within(reshaped(self.value(operand, None), dtype, shape), &cut),
        }
    }

    fn concat(&self, node: &Node, dim: usize, cut: Option<Cut>) -> Value<'a> {
        let mut shape = self.shape(node.results[0]);
        let (along, across) = match cut {
            Some(cut) if cut.dim == dim => (cut.range, None),
            across => (0..shape[dim], across),
        };
        let (mut parts, mut start) = (vec![], 0);
        for &operand in &node.operands {
            let extent = self.shape(operand)[dim];
            let range = along.start.max(start)..along.end.min(start + extent);
            if !range.is_empty() {
                let cut = Cut { dim, range: range.start - start..range.end - start };
                parts.push(match &across {
                    None if cut.range.len() < extent => self.value(operand, Some(cut)),
                    across => self.value(operand, across.clone()),
                });
            }
            start += extent;
        }
        if parts.len() == 1 {
            return parts.remove(0);
        }
        shape[dim] = along.len();
        if let Some(cut) = across {
            shape[cut.dim] = cut.range.len();
        }
        let dtype = self.graph.ty(node.results[0]).dtype;
        let parts: Vec<Tensor> = parts.into_iter().map(|part| tensor(part, dtype)).collect();
        Value::Made(self.evaluated(node, &parts, shape))
    }

    /// The operation's own reference, without rounding its result.
    fn evaluated(&self, node: &Node, operands: &[Tensor], shape: Vec<usize>) -> Tensor {
        let extents = shape.iter().map(|extent| *extent as u64);
        let ty = TensorType::new(self.graph.ty(node.results[0]).dtype, extents);
        let cx = RankContext { bindings: &Bindings::new(), mesh: &Mesh::default(), rank: 0 };
        let operands: Vec<&Tensor> = operands.iter().collect();
        node.op.def().reference(&operands, &[ty], &cx).remove(0)
    }

    fn tensor(&self, value: ValueId, cut: Option<Cut>) -> Tensor {
        tensor(self.value(value, cut), self.graph.ty(value).dtype)
    }

    fn elements(&self, value: ValueId) -> usize {
        self.shape(value).iter().product()
    }

    fn shape(&self, value: ValueId) -> Vec<usize> {
        self.graph.ty(value).shape(&Bindings::new()).expect("weights have numbers for extents")
    }
}

/// The elements of a value of this type.
fn tensor(value: Value<'_>, dtype: DType) -> Tensor {
    match value {
        Value::Stored(view) => view.tensor(dtype),
        Value::Made(tensor) => tensor,
    }
}

fn within<'a>(value: Value<'a>, cut: &Cut) -> Value<'a> {
    match value {
        Value::Stored(view) => Value::Stored(view.range(cut.dim, cut.range.clone())),
        Value::Made(tensor) => Value::Made(tensor.slice(cut.dim, cut.range.clone())),
    }
}

fn reshaped(value: Value<'_>, dtype: DType, shape: Vec<usize>) -> Value<'_> {
    match value {
        Value::Stored(view) => match view.reshaped(&shape) {
            Some(view) => Value::Stored(view),
            None => Value::Made(Tensor { shape, ..view.tensor(dtype) }),
        },
        Value::Made(tensor) => Value::Made(Tensor { shape, ..tensor }),
    }
}

/// The dimension of `from` that is dimension `dim` of `to`, in the same place and of the same extent.
fn same_dim(from: &[usize], to: &[usize], dim: usize) -> Option<usize> {
    let before = |shape: &[usize], dim: usize| shape[..dim].iter().product::<usize>();
    (0..from.len()).find(|&other| from[other] == to[dim] && before(from, other) == before(to, dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret::{Interpreter, Precision};
    use crate::parse::parse;
    use std::sync::Mutex;

    const TEXT: &str = "graph @main(param %w: f32[3]) { return %w }
        weight @one(param %a: f16[4, 6], param %b: f16[4, 6], param %g: f32[4], param %s: f32[3, 2]) {
          %0 = reshape %a {dims = [4, 1, 3, 2]} : f16[4, 1, 3, 2]
          %1 = reshape %b {dims = [4, 1, 3, 2]} : f16[4, 1, 3, 2]
          %2 = scale %1 {by = 0.5} : f16[4, 1, 3, 2]
          %3 = concat %0, %2, %0 {dim = 1} : f16[4, 3, 3, 2]
          %4 = matmul %g, %3 {spec = \"h, h t a d -> h t a d\"} : f32[4, 3, 3, 2]
          %5 = add %4, %s : f32[4, 3, 3, 2]
          %6 = slice %5 {dim = 1, from = 1, to = 3} : f32[4, 2, 3, 2]
          %7 = transpose %6 {order = [2, 0, 1, 3]} : f32[3, 4, 2, 2]
          %8 = softmax %7 : f32[3, 4, 2, 2]
          %9 = reduce %7 {kind = sum, dims = [3]} : f32[3, 4, 2]
          %10 = broadcast %9 {leading = [2]} : f32[2, 3, 4, 2]
          %11 = matmul %8, %10 {spec = \"a h t d, s a h t -> s t a d\"} : f32[2, 2, 3, 2]
          return %11
        }
        weight @moved(param %a: f16[4, 3, 2], param %b: f16[4, 3, 2]) {
          %0 = reshape %a {dims = [4, 1, 3, 2]} : f16[4, 1, 3, 2]
          %1 = reshape %b {dims = [4, 1, 3, 2]} : f16[4, 1, 3, 2]
          %2 = concat %0, %1 {dim = 1} : f16[4, 2, 3, 2]
          return %2
        }";

    fn parameters(graph: &Graph) -> Vec<Tensor> {
        let of = |(seed, ty): (usize, &TensorType)| {
            let shape = ty.shape(&Bindings::new()).unwrap();
            let count: usize = shape.iter().product();
            Tensor::new(ty.dtype, &shape, (0..count).map(|i| ((i * 7 + seed * 3) % 11) as f64 / 8.0 - 0.5))
        };
        graph.inputs.iter().enumerate().map(|(i, input)| of((i, &input.ty))).collect()
    }

    fn stored(tensor: &Tensor, cut: Option<Cut>) -> Strided<'static> {
        let whole = made(tensor, tensor.dtype);
        cut.map_or(whole.clone(), |cut| whole.range(cut.dim, cut.range))
    }

    #[test]
    fn every_piece_is_a_piece_of_the_whole() {
        let module = parse(TEXT).unwrap();
        for graph in &module.weights {
            let alone = crate::Module { graphs: vec![graph.clone()], ..crate::Module::default() };
            let given = parameters(graph);
            let whole = Interpreter::new(&alone, Precision::Double).run(&graph.name, &given).unwrap().remove(0);
            let whole = whole.rounded();
            let part = |cut: Option<Cut>| {
                let parameter = |i: usize, cut| stored(&given[i], cut);
                Pieces::new(graph, parameter).piece(cut).tensor(graph.ty(graph.outputs[0]).dtype)
            };
            assert_eq!(part(None), whole);
            for dim in 0..whole.shape.len() {
                for start in 0..whole.shape[dim] {
                    for end in start + 1..=whole.shape[dim] {
                        let found = part(Some(Cut { dim, range: start..end }));
                        assert_eq!(found, whole.slice(dim, start..end), "@{} {dim}: {start}..{end}", graph.name);
                    }
                }
            }
        }
    }

    #[test]
    fn large_operands_are_taken_in_parts() {
        let text = "graph @main(param %w: f32[3]) { return %w }
            weight @shift(param %beta: f32[512], param %w: f32[512, 4, 128], param %v: f32[4, 128, 3]) {
              %0 = matmul %beta, %w {spec = \"h, h a d -> a d\"} : f32[4, 128]
              %1 = matmul %0, %v {spec = \"a d, a d h -> h\"} : f32[3]
              return %1
            }";
        let module = parse(text).unwrap();
        let (graph, asked) = (&module.weights[0], Mutex::new(vec![]));
        let given = parameters(graph);
        let parameter = |i: usize, cut: Option<Cut>| {
            if i == 1 {
                asked.lock().unwrap().push(cut.clone().map(|cut| (cut.dim, cut.range)));
            }
            stored(&given[i], cut)
        };
        let pieces = Pieces::new(graph, parameter);
        let parts: Vec<f64> =
            (0..3).flat_map(|i| pieces.piece(Some(Cut { dim: 0, range: i..i + 1 })).tensor(DType::F32).data).collect();
        let alone = crate::Module { graphs: vec![graph.clone()], ..crate::Module::default() };
        let whole = Interpreter::new(&alone, Precision::Double).run(&graph.name, &given).unwrap().remove(0).rounded();
        assert_eq!(parts, whole.data);
        assert_eq!(*asked.lock().unwrap(), [Some((1, 0..2)), Some((1, 2..4))], "in two parts, once for all pieces");
    }

    #[test]
    fn one_part_of_a_concatenation_stays_where_it_is_stored() {
        let module = parse(TEXT).unwrap();
        let graph = module.weight("moved").unwrap();
        assert!(only_moves(graph) && !only_moves(module.weight("one").unwrap()));
        let bytes = [vec![1; 48], vec![2; 48]];
        let view = |i: usize, cut: Option<Cut>| {
            let whole = Strided::new(&bytes[i], DType::F16, vec![4, 3, 2], 0, vec![1, 8, 4]);
            cut.map_or(whole.clone(), |cut| whole.range(cut.dim, cut.range))
        };
        let second = Pieces::new(graph, view).piece(Some(Cut { dim: 1, range: 1..2 }));
        assert!(std::ptr::eq(second.bytes(), &*bytes[1]) && second.strides() == [1, 0, 8, 4], "{second:?}");
    }
}
