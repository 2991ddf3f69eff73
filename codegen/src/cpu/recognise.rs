//! From a kernel's graph to the specification that an emitter fills in.
//!
//! A kernel has at most one *anchor*, the operation that gives it its kind; a product may have a normalisation before
//! it, and everything may have calculations place by place behind it. Reshapes change no byte and are looked through,
//! and so are slices of columns before an anchor that reads activations: it reads them where they lie, from row to row of
//! the whole. A product rounds its rows to bf16 on the way, where casts say so. A single operation that fits no emitter
//! becomes plain loops. What is refused here, passes keep apart.

use super::layouts::contracted_of;
use super::loops;
use super::place::Places;
use super::spec::{
    AttentionSpec, CacheAppendSpec, Count, Element, ElementwiseSpec, GatherSpec, GemmSpec, Matrix, Norm, RowFunction,
    RowSpec, Rows, Spec, Stored,
};
use bloomery_ir::graph::Node;
use bloomery_ir::ops::layer_norm::LayerNorm;
use bloomery_ir::ops::matmul::MatMul;
use bloomery_ir::target::Refusal;
use bloomery_ir::{DType, Extent, Graph, Layout, Op, SymbolBound, TensorType, ValueId, op};

/// The specification of a kernel whose symbols have these indices in a launch.
///
/// # Errors
/// A graph that is not one kernel here.
pub fn recognise(graph: &Graph, inputs: &[Layout], symbols: &[SymbolBound]) -> Result<Spec, Refusal> {
    let reading = Reading { graph, inputs, symbols, definitions: graph.definitions() };
    let mut anchors: Vec<&Node> = graph.nodes.iter().filter(|node| is_anchor(node)).collect();
    // Slices of columns are how an anchor reads its rows; alone, moving them is the work.
    if anchors.iter().any(|node| !matches!(node.op, Op::Slice(_))) {
        anchors.retain(|node| !matches!(node.op, Op::Slice(_)));
    }
    if let Some(product) = anchors.iter().find(|node| matches!(node.op, Op::MatMul(_))) {
        return reading.product(product, &anchors);
    }
    match anchors[..] {
        [] => reading.elementwise(),
        [node] => match &node.op {
            Op::AlibiAttention(op) => reading.attention(node, op.scale as f32),
            Op::CacheAppend(_) => reading.append(node),
            Op::LayerNorm(op) => reading.row(node, RowFunction::LayerNorm(reading.norm(node, op)?)),
            Op::Softmax(_) => reading.row(node, RowFunction::Softmax),
            Op::Gather(_) | Op::GatherPart(_) => reading.gather(node, None),
            _ => reading.loops(node),
        },
        [gather, norm] => match (&gather.op, &norm.op) {
            (Op::Gather(_), Op::LayerNorm(op)) => reading.gather(gather, Some((norm, op))),
            _ => refuse(format!("`{}` and `{}` have no kernel in common", gather.op.name(), norm.op.name())),
        },
        _ => refuse(format!("{} operations that each want a kernel", anchors.len())),
    }
}

fn is_anchor(node: &Node) -> bool {
    node.op.def().expr().is_none() && !matches!(node.op, Op::Reshape(_))
}

pub(crate) fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// Some columns of every row of a value.
struct Columns {
    whole: ValueId,
    /// The first of them.
    offset: usize,
    /// From row to row of the whole.
    stride: usize,
}

/// A graph being read.
pub(crate) struct Reading<'a> {
    pub(crate) graph: &'a Graph,
    inputs: &'a [Layout],
    symbols: &'a [SymbolBound],
    definitions: Vec<Option<usize>>,
}

impl Reading<'_> {
    /// The value behind reshapes.
    pub(crate) fn source(&self, value: ValueId) -> ValueId {
        match self.definition(value) {
            Some(Node { op: Op::Reshape(_), operands, .. }) => self.source(operands[0]),
            _ => value,
        }
    }

    pub(crate) fn definition(&self, value: ValueId) -> Option<&Node> {
        self.definitions[value.index()].map(|i| &self.graph.nodes[i])
    }

    /// The view of an input, behind reshapes.
    pub(crate) fn input(&self, value: ValueId) -> Result<usize, Refusal> {
        let source = self.source(value).index();
        if source < self.graph.inputs.len() { Ok(source) } else { refuse("an operand is calculated, not given") }
    }

    /// An input that lies row by row.
    pub(crate) fn row_major(&self, value: ValueId) -> Result<usize, Refusal> {
        let view = self.input(value)?;
        match self.inputs[view] {
            Layout::RowMajor => Ok(view),
            _ => refuse(format!("%{} does not lie row by row", self.graph.inputs[view].name)),
        }
    }

    pub(crate) fn element(&self, value: ValueId) -> Result<Element, Refusal> {
        element_of(self.graph.ty(value).dtype)
    }

    fn stored(&self, value: ValueId) -> Result<Stored, Refusal> {
        Ok(Stored { view: self.row_major(value)?, element: self.element(value)? })
    }

    /// An input of f32 activations, `width` columns wide, or that many columns of one.
    fn activations(&self, value: ValueId, width: usize) -> Result<Matrix, Refusal> {
        if self.graph.ty(value).dtype != DType::F32 {
            return refuse(format!("activations are f32, found {}", self.graph.ty(value)));
        }
        if !self.is_slice(value) {
            return Ok(Matrix::whole(self.row_major(value)?, width));
        }
        let ty = self.graph.ty(value);
        if self.columns_of_row(ty)? != width {
            return refuse(format!("rows of {width} columns from {ty}"));
        }
        let Columns { whole, offset, stride } = self.columns(value)?;
        Ok(Matrix { stride, offset, ..Matrix::whole(self.row_major(whole)?, width) })
    }

    fn is_slice(&self, value: ValueId) -> bool {
        self.definition(self.source(value)).is_some_and(|node| matches!(node.op, Op::Slice(_)))
    }

    /// Where these columns lie. Rows are the outermost dimension, which no slice or reshape on the way changes.
    fn columns(&self, value: ValueId) -> Result<Columns, Refusal> {
        let ty = self.graph.ty(value);
        let Some(Node { op: Op::Slice(slice), operands, .. }) = self.definition(self.source(value)) else {
            return Ok(Columns { whole: value, offset: 0, stride: self.columns_of_row(ty)? });
        };
        let from = self.graph.ty(operands[0]);
        let lone = |dim: &bloomery_ir::Dim| dim.extent == Extent::number(1);
        let side_by_side = slice.dim > 0 && from.dims[1..slice.dim].iter().all(lone);
        if !side_by_side || ty.dims.first() != from.dims.first() {
            return refuse(format!("rows of {ty} are no columns of {from}"));
        }
        let columns = self.columns(operands[0])?;
        let step = self.matrix(from, from.rank() - slice.dim - 1)?.1;
        Ok(Columns { offset: columns.offset + slice.from as usize * step, ..columns })
    }

    /// Elements of one index of the outermost dimension.
    fn columns_of_row(&self, ty: &TensorType) -> Result<usize, Refusal> {
        self.matrix(ty, ty.rank().saturating_sub(1)).map(|(_, width)| width)
    }

    /// The view of an output.
    pub(crate) fn output_view(&self, output: usize) -> usize {
        self.graph.inputs.len() + output
    }

    /// The only output, when it is this value behind reshapes.
    fn only_output(&self, value: ValueId) -> Result<usize, Refusal> {
        match self.graph.outputs[..] {
            [output] if self.source(output) == value => Ok(self.output_view(0)),
            _ => refuse("its result is not the only one"),
        }
    }

    pub(crate) fn count(&self, extent: &Extent) -> Result<Count, Refusal> {
        let value = |name: u64| extent.eval(&extent.names().map(|n| (n.to_owned(), name)).collect());
        let names: Vec<&str> = extent.names().collect();
        let wrong = || Refusal(format!("extent {extent} is no multiple of one name"));
        let times = value(1).map_err(|_| wrong())? as usize;
        match names[..] {
            [] => Ok(Count::number(times)),
            [name] if value(2) == Ok(2 * times as u64) => {
                let dim = self.symbols.iter().position(|symbol| symbol.name == name);
                Ok(Count { dim: Some(dim.ok_or_else(wrong)?), times })
            }
            _ => Err(wrong()),
        }
    }

    /// The largest value in the range the kernel is specialised for.
    fn most(&self, count: Count) -> usize {
        let name = count.dim.map(|dim| &self.symbols[dim].name);
        let bound = self.graph.symbols.iter().find(|symbol| Some(&symbol.name) == name);
        count.times * bound.map_or(1, |bound| bound.most as usize)
    }

    /// `[rows, width]` of a type whose last `inner` dimensions are numbers.
    pub(crate) fn matrix(&self, ty: &TensorType, inner: usize) -> Result<(Count, usize), Refusal> {
        let at = ty.rank().checked_sub(inner).ok_or_else(|| Refusal(format!("{ty} has too few dimensions")))?;
        let product = |dims: &[bloomery_ir::Dim]| dims.iter().fold(Extent::number(1), |p, dim| p.times(&dim.extent));
        let width =
            product(&ty.dims[at..]).as_number().ok_or_else(|| Refusal(format!("rows of {ty} vary in width")))?;
        Ok((self.count(&product(&ty.dims[..at]))?, width as usize))
    }

    fn norm(&self, node: &Node, op: &LayerNorm) -> Result<Norm, Refusal> {
        let affine = match node.operands[..] {
            [_, gamma, beta] => Some((self.stored(gamma)?, self.stored(beta)?)),
            _ => None,
        };
        Ok(Norm { affine, epsilon: op.epsilon as f32 })
    }

    fn product(&self, node: &Node, anchors: &[&Node]) -> Result<Spec, Refusal> {
        let Op::MatMul(op) = &node.op else { unreachable!("a product was found") };
        let (left, right) = (node.operands[0], node.operands[1]);
        let packed = self.input(right).is_ok_and(|view| matches!(self.inputs[view], Layout::Panels { .. }));
        if !packed {
            return if anchors.len() == 1 { self.loops(node) } else { refuse("a product with a weight not in panels") };
        }
        let contracted = self.contracted(op, left, right)?;
        let (count, k) = self.matrix(self.graph.ty(left), contracted.len())?;
        let n = self.matrix(self.graph.ty(right), self.graph.ty(right).rank())?.1 / k;
        let (rows, rounded) = self.behind_rounding(left);
        let before = self.source(rows);
        let norm = match (self.definition(before), anchors.len()) {
            (None | Some(Node { op: Op::Slice(_), .. }), 1) => None,
            (Some(node), 2) => match &node.op {
                Op::LayerNorm(op) => Some((node, self.norm(node, op)?)),
                _ => return refuse("a product of something calculated"),
            },
            _ => return refuse("a product and operations that each want a kernel"),
        };
        if norm.is_some() && self.graph.readers()[before.index()].len() > 1 {
            return refuse("the normalised rows are used beside the product");
        }
        let x = self.activations(norm.as_ref().map_or(rows, |(node, _)| node.operands[0]), k)?;
        let w = Stored { view: self.input(right)?, element: self.element(right)? };
        let rows = match self.most(count) {
            1 => Rows::One,
            max => Rows::Many { max },
        };
        let store = Places::new(self, Some(node.results[0]), count, n).store()?;
        Ok(Spec::Gemm(GemmSpec { count, rows, k, n, x, w, norm: norm.map(|(_, norm)| norm), rounded, store }))
    }

    /// The value that is rounded to bf16 before it is multiplied, cast there and back; or the value itself. Whether it is.
    fn behind_rounding(&self, value: ValueId) -> (ValueId, bool) {
        let cast = |value: ValueId, to: DType| match self.definition(self.source(value)) {
            Some(Node { op: Op::Cast(cast), operands, .. }) if cast.to == to => Some(operands[0]),
            _ => None,
        };
        match cast(value, DType::F32).and_then(|half| cast(half, DType::BF16)) {
            Some(whole) if self.graph.ty(whole).dtype == DType::F32 => (whole, true),
            _ => (value, false),
        }
    }

    /// The contracted dimensions of a packed right operand, checked against its layout.
    fn contracted(&self, op: &MatMul, left: ValueId, right: ValueId) -> Result<Vec<usize>, Refusal> {
        if self.source(right) != right {
            return refuse("a reshaped weight");
        }
        let contracted = contracted_of(op, self.graph.ty(left).rank(), self.graph.ty(right).rank())
            .ok_or_else(|| Refusal("a product of another form than `.. k, k n -> .. n`".into()))?;
        match &self.inputs[right.index()] {
            Layout::Panels { contracted: packed } if *packed == contracted => Ok(contracted),
            layout => refuse(format!("the weight lies in {layout:?}, contracted are {contracted:?}")),
        }
    }

    fn elementwise(&self) -> Result<Spec, Refusal> {
        let output = *self.graph.outputs.first().ok_or_else(|| Refusal("no results".into()))?;
        let (count, width) = self.places(self.graph.ty(output))?;
        let store = Places::new(self, None, count, width).store()?;
        Ok(Spec::Elementwise(ElementwiseSpec { count, width, store }))
    }

    /// Rows and columns for a calculation place by place: as wide as the widest operand that is repeated.
    fn places(&self, ty: &TensorType) -> Result<(Count, usize), Refusal> {
        let whole = op::elements(ty);
        let total = self.count(&whole)?;
        let sizes = self.graph.inputs.iter().map(|input| op::elements(&input.ty));
        let repeated = sizes.filter(|size| *size != whole).filter_map(|size| size.as_number()).max();
        let width = match repeated {
            Some(width) if width > 1 => width as usize,
            _ => self.matrix(ty, ty.rank() - 1).map_or(1, |(_, width)| width).max(1),
        };
        if total.dim.is_none() && repeated.is_none_or(|width| width <= 1) {
            return Ok((Count::number(1), total.times));
        }
        if total.times % width != 0 {
            return refuse(format!("{ty} has no rows of {width}"));
        }
        Ok((Count { times: total.times / width, ..total }, width))
    }

    fn row(&self, node: &Node, function: RowFunction) -> Result<Spec, Refusal> {
        let (count, width) = self.matrix(self.graph.ty(node.operands[0]), 1)?;
        let x = self.activations(node.operands[0], width)?;
        let out = Matrix::whole(self.only_output(node.results[0])?, width);
        if self.element(node.results[0])? != Element::F32
            || self.graph.nodes.iter().any(|n| n.op.def().expr().is_some())
        {
            return refuse("a row operation stands alone and gives f32");
        }
        Ok(Spec::Row(RowSpec { count, width, function, x, out }))
    }

    fn gather(&self, node: &Node, norm: Option<(&Node, &LayerNorm)>) -> Result<Spec, Refusal> {
        let (table, ids) = (node.operands[0], self.row_major(node.operands[1])?);
        let ty = self.graph.ty(table);
        let (table_rows, width) = self.matrix(ty, ty.rank() - 1)?;
        let panels = match &self.inputs[self.input(table)?] {
            Layout::RowMajor => false,
            Layout::Panels { contracted } if contracted[..] == [1] && ty.rank() == 2 => true,
            layout => return refuse(format!("a table in {layout:?}")),
        };
        // Between the rows and what is done with them only a widening may stand.
        let mut last = node.results[0];
        for next in &self.graph.nodes {
            let follows = next.operands.first().is_some_and(|operand| self.source(*operand) == last);
            let widens = matches!(next.op, Op::Cast(_)) && self.graph.ty(next.results[0]).dtype == DType::F32;
            let normalises = norm.is_some_and(|(norm, _)| std::ptr::eq(norm, next));
            match next.op {
                Op::Gather(_) | Op::GatherPart(_) | Op::Reshape(_) => {}
                _ if follows && (widens || normalises) => last = next.results[0],
                _ => return refuse("a gather is followed by a widening and a norm at most"),
            }
        }
        let element = self.element(last)?;
        let out = Matrix { element, ..Matrix::whole(self.only_output(last)?, width) };
        let norm = norm.map(|(node, op)| self.norm(node, op)).transpose()?;
        let stored = Stored { view: self.input(table)?, element: self.element(table)? };
        if (norm.is_some() || stored.element != element) && element != Element::F32 {
            return refuse("gathered rows become f32 or stay what they are");
        }
        let count = self.count(&self.graph.ty(node.operands[1]).dims[0].extent)?;
        let place = node.operands.get(2).map(|place| self.row_major(*place)).transpose()?;
        Ok(Spec::Gather(GatherSpec { count, table_rows, width, table: stored, panels, ids, place, norm, out }))
    }

    /// (heads, d, page tokens) of a cache.
    fn cache(&self, kv: ValueId) -> Result<(usize, usize, usize), Refusal> {
        let number = |dim: usize| self.graph.ty(kv).dims[dim].extent.as_number().map(|n| n as usize);
        let dims = (number(2), number(4), number(3));
        let (Some(heads), Some(d), Some(tokens)) = dims else { return refuse("a cache of unknown extents") };
        if self.inputs[self.input(kv)?] != Layout::CachePages || tokens % 16 != 0 || !(16..=64).contains(&tokens) {
            return refuse(format!("a cache lies in pages of 16, 32, 48 or 64 tokens, found {}", self.graph.ty(kv)));
        }
        Ok((heads, d, tokens))
    }

    fn attention(&self, node: &Node, scale: f32) -> Result<Spec, Refusal> {
        let [q, kv, rows, pages, slopes] = node.operands[..] else { return refuse("attention takes 5 operands") };
        let (heads, d, page_tokens) = self.cache(kv)?;
        if self.graph.ty(slopes).dtype != DType::F32 || self.graph.nodes.iter().any(|n| n.op.def().expr().is_some()) {
            return refuse("attention stands alone, its slopes are f32");
        }
        Ok(Spec::Attention(AttentionSpec {
            heads,
            d,
            q: self.activations(q, heads * d)?,
            kv: Stored { view: self.input(kv)?, element: self.element(kv)? },
            rows: self.row_major(rows)?,
            pages: self.row_major(pages)?,
            slopes: self.row_major(slopes)?,
            out: Matrix::whole(self.only_output(node.results[0])?, heads * d),
            scale,
            count: self.count(&self.graph.ty(q).dims[0].extent)?,
            sequences: self.count(&self.graph.ty(pages).dims[0].extent)?,
            pages_width: self.count(&self.graph.ty(pages).dims[1].extent)?,
            page_tokens,
        }))
    }

    fn append(&self, node: &Node) -> Result<Spec, Refusal> {
        let [kv, k, v, rows, pages] = node.operands[..] else { return refuse("the cache's writer takes 5 operands") };
        let (heads, d, page_tokens) = self.cache(kv)?;
        if self.graph.nodes.iter().any(|n| n.op.def().expr().is_some()) {
            return refuse("the cache's writer stands alone");
        }
        Ok(Spec::CacheAppend(CacheAppendSpec {
            heads,
            d,
            k: self.activations(k, heads * d)?,
            v: self.activations(v, heads * d)?,
            kv: Stored { view: self.only_output(node.results[0])?, element: self.element(kv)? },
            rows: self.row_major(rows)?,
            pages: self.row_major(pages)?,
            count: self.count(&self.graph.ty(k).dims[0].extent)?,
            sequences: self.count(&self.graph.ty(pages).dims[0].extent)?,
            pages_width: self.count(&self.graph.ty(pages).dims[1].extent)?,
            page_tokens,
        }))
    }

    fn loops(&self, node: &Node) -> Result<Spec, Refusal> {
        if self.graph.nodes.iter().any(|n| n.op.def().expr().is_some()) {
            return refuse(format!("`{}` stands alone", node.op.name()));
        }
        let out = self.only_output(node.results[0])?;
        loops::of(self, node, out).map(Spec::Loops)
    }
}

pub(crate) fn element_of(dtype: DType) -> Result<Element, Refusal> {
    match dtype {
        DType::F32 => Ok(Element::F32),
        DType::F16 => Ok(Element::F16),
        DType::BF16 => Ok(Element::Bf16),
        other => refuse(format!("elements of {other}")),
    }
}
