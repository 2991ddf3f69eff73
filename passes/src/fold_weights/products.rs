//! Rules around products with weights.

use super::site::{Biased, Site};
use crate::group::kernel_graph;
use crate::pass::PassError;
use crate::rewrite::Rewrite;
use bloomery_ir::graph::Node;
use bloomery_ir::ops::add::Add;
use bloomery_ir::ops::broadcast::Broadcast;
use bloomery_ir::ops::cast::Cast;
use bloomery_ir::ops::concat::Concat;
use bloomery_ir::ops::constant::Constant;
use bloomery_ir::ops::matmul::{Letters, MatMul};
use bloomery_ir::ops::reshape::Reshape;
use bloomery_ir::ops::slice::Slice;
use bloomery_ir::verify::callee;
use bloomery_ir::{DType, Extent, Graph, Op, TensorType, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// A product of rows with a weight, `.. k.., w -> .. n..`: the weight's own dimensions come last in the result, in order.
struct Product {
    node: usize,
    x: ValueId,
    weight: ValueId,
    letters: Letters,
}

impl Product {
    /// The node of this number, if it is one.
    fn of(site: &Site<'_>, node: usize) -> Option<Product> {
        let Node { op: Op::MatMul(op), operands, .. } = &site.graph.nodes[node] else { return None };
        let (x, weight) = (operands[0], operands[1]);
        let letters = op.letters(site.ty(x).rank(), site.ty(weight).rank()).ok()?;
        let rows = letters.left.iter().filter(|letter| letters.result.contains(letter));
        let form = rows.clone().chain(free(&letters)).eq(&letters.result);
        let apart = rows.clone().all(|letter| !letters.right.contains(letter));
        (form && apart && site.is_weight(weight)).then_some(Product { node, x, weight, letters })
    }

    /// The product of a vector over the left operand's last dimensions with the weight: a bias of the result.
    fn of_vector(&self, rank: usize) -> Option<MatMul> {
        let vector = &self.letters.left[self.letters.left.len() - rank..];
        let summed = self.letters.contracted();
        let whole = summed.len() == rank && vector.iter().all(|letter| summed.contains(&letter));
        let result: Vec<&str> = free(&self.letters).map(String::as_str).collect();
        whole.then(|| MatMul::spec(&format!("{}, {} -> {}", vector.join(" "), self.letters.right.join(" "), result.join(" "))))
    }
}

/// Letters of the weight that stay in the result.
fn free(letters: &Letters) -> impl Iterator<Item = &String> + Clone {
    letters.right.iter().filter(|letter| letters.result.contains(letter))
}

/// Products that are all that reads a value.
fn products_of(site: &Site<'_>, value: ValueId) -> Option<Vec<Product>> {
    let all: Option<Vec<Product>> = site.readers[value.index()].iter().map(|&reader| Product::of(site, reader)).collect();
    let fits = |product: &Product| product.x == value && site.is_f32(site.graph.nodes[product.node].results[0]);
    all.filter(|all| !all.is_empty() && all.iter().all(fits) && !site.graph.outputs.contains(&value))
}

/// `layer_norm(x, g, b) @ w` is `layer_norm(x) @ (g w) + b @ w`.
pub(super) fn norm_into_product(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    for (norm, node) in site.graph.nodes.iter().enumerate() {
        let (Op::LayerNorm(_), [x, gamma, beta]) = (&node.op, &node.operands[..]) else { continue };
        let Some(products) = products_of(site, node.results[0]) else { continue };
        let fits = |product: &Product| {
            site.is_f32(product.weight) && site.is_replaceable(product.weight) && product.of_vector(1).is_some()
        };
        let own = site.is_f32(*x) && site.is_weight(*gamma) && site.is_weight(*beta);
        if !own || !products.iter().all(fits) {
            continue;
        }
        let changed = site.rebuilt(|rewrite, i, node| {
            if i == norm {
                return rewrite.node(node.op.clone(), &[rewrite.value(*x)]).map(Some);
            }
            let Some(product) = products.iter().find(|product| product.node == i) else { return Ok(None) };
            let [w, gamma, beta] = [product.weight, *gamma, *beta].map(|value| rewrite.value(value));
            let right = product.letters.right.join(" ");
            let along = product.letters.left.last().expect("a norm has rows");
            let scaled = rewrite.node(MatMul::spec(&format!("{along}, {right} -> {right}")), &[gamma, w])?[0];
            let shift = rewrite.node(product.of_vector(1).expect("looked at above"), &[beta, w])?[0];
            let result = rewrite.node(node.op.clone(), &[rewrite.value(product.x), scaled])?[0];
            rewrite.node(Add, &[result, shift]).map(Some)
        });
        return changed.map(Some);
    }
    Ok(None)
}

/// `(x + b) @ w` is `x @ w + b @ w`.
pub(super) fn bias_through_product(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    for node in &site.graph.nodes {
        let Some(Biased { x, bias, .. }) = node.results.first().and_then(|result| site.biased(*result)) else { continue };
        let (sum, rank) = (node.results[0], site.ty(bias).rank());
        let Some(products) = products_of(site, sum).filter(|_| site.is_f32(x) && site.is_f32(sum)) else { continue };
        if products.iter().any(|product| product.of_vector(rank).is_none()) {
            continue;
        }
        let changed = site.rebuilt(|rewrite, i, node| {
            let Some(product) = products.iter().find(|product| product.node == i) else { return Ok(None) };
            let (bias, w) = (as_f32(rewrite, bias)?, rewrite.value(product.weight));
            let shift = rewrite.node(product.of_vector(rank).expect("looked at above"), &[bias, w])?[0];
            let result = rewrite.node(node.op.clone(), &[rewrite.value(x), w])?[0];
            rewrite.node(Add, &[result, shift]).map(Some)
        });
        return changed.map(Some);
    }
    Ok(None)
}

/// `(x + a) + b` is `x + (b + a)`.
pub(super) fn sum_of_biases(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    for (outer, node) in site.graph.nodes.iter().enumerate() {
        let Some(second) = node.results.first().and_then(|result| site.biased(*result)) else { continue };
        let Some(first) = site.biased(second.x).filter(|_| site.is_read_by(second.x, outer)) else { continue };
        let single = [first.x, second.x, node.results[0]].into_iter().all(|value| site.is_f32(value));
        if !single || site.ty(first.bias).unnamed().dims != site.ty(second.bias).unnamed().dims {
            continue;
        }
        let changed = site.rebuilt(|rewrite, i, _| {
            if i != outer {
                return Ok(None);
            }
            let (later, earlier) = (rewrite.value(second.bias), as_f32(rewrite, first.bias)?);
            let both = rewrite.node(Add, &[later, earlier])?[0];
            rewrite.node(Add, &[rewrite.value(first.x), both]).map(Some)
        });
        return changed.map(Some);
    }
    Ok(None)
}

/// What stands for an old value, widened where it is not f32.
fn as_f32(rewrite: &mut Rewrite<'_>, old: ValueId) -> Result<ValueId, PassError> {
    let value = rewrite.value(old);
    match rewrite.builder.ty(value).dtype {
        DType::F32 => Ok(value),
        _ => rewrite.node(Cast { to: DType::F32 }, &[value]).map(|results| results[0]),
    }
}

/// One of several products that become one.
struct Part<'p> {
    product: &'p Product,
    bias: Option<Biased>,
    /// The product, or its sum with the bias.
    result: ValueId,
}

/// `x @ a + b`, `x @ c`, .. are slices of `x @ [a, c, ..] + [b, 0, ..]`.
pub(super) fn side_by_side(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    let products: Vec<Product> = (0..site.graph.nodes.len()).filter_map(|node| Product::of(site, node)).collect();
    for (i, first) in products.iter().enumerate() {
        let ty = |product: &Product| site.ty(product.weight).unnamed();
        let like = |other: &&Product| {
            let same = other.x == first.x && other.letters == first.letters && ty(other) == ty(first);
            same && site.is_replaceable(other.weight)
        };
        let parts: Vec<Part> = products[i..].iter().filter(like).filter_map(|product| part(site, product)).collect();
        if parts.len() < 2 {
            continue;
        }
        let wide = wide(site, &parts)?;
        if wide.is_read_in_place(site)? {
            return Ok(Some(wide.graph));
        }
    }
    Ok(None)
}

/// A product with the bias that is all that reads it, if one does; neither may be returned, or change its type.
fn part<'p>(site: &Site<'_>, product: &'p Product) -> Option<Part<'p>> {
    let value = site.graph.nodes[product.node].results[0];
    let sum = match site.readers[value.index()][..] {
        [reader] if site.is_read_by(value, reader) => site.graph.nodes[reader].results.first().copied(),
        _ => None,
    };
    let whole = |bias: &Biased| bias.x == value && site.ty(bias.bias).rank() == free(&product.letters).count();
    let bias = sum.and_then(|sum| site.biased(sum)).filter(whole);
    let result = if bias.is_some() { sum? } else { value };
    let same = site.ty(result) == site.ty(value) && !site.graph.outputs.contains(&result);
    same.then_some(Part { product, bias, result })
}

/// A graph with one product in place of several.
struct Wide {
    graph: Graph,
    /// Its slices, one for each.
    parts: Vec<ValueId>,
}

fn wide(site: &Site<'_>, parts: &[Part<'_>]) -> Result<Wide, PassError> {
    let mut results: Vec<ValueId> = vec![];
    let graph = site.rebuilt(|rewrite, i, _| {
        if i == parts[0].product.node {
            results = wide_results(rewrite, site, parts)?;
        }
        // The sum with a bias replaces its product, which nothing else reads.
        let made_by = |part: &Part<'_>| i == part.product.node || part.bias.as_ref().is_some_and(|bias| i == bias.node);
        Ok(parts.iter().position(made_by).map(|which| vec![results[which]]))
    })?;
    Ok(Wide { graph, parts: results })
}

/// The wide product with its bias, sliced.
fn wide_results(rewrite: &mut Rewrite<'_>, site: &Site<'_>, parts: &[Part<'_>]) -> Result<Vec<ValueId>, PassError> {
    let Letters { left, right, result } = &parts[0].product.letters;
    let names = (0..).map(|i| if i == 0 { "part".to_owned() } else { format!("part{i}") });
    let is_new = |name: &String| !left.contains(name) && !right.contains(name);
    let letter = names.into_iter().find(is_new).expect("numbers do not run out");
    let is_column = |letter: &String| right.contains(letter) && result.contains(letter);
    let place = |side: &[String]| side.iter().position(is_column).unwrap_or(side.len());
    let with = |side: &[String]| {
        let (before, columns) = side.split_at(place(side));
        [before, std::slice::from_ref(&letter), columns].concat().join(" ")
    };
    let spec = format!("{}, {} -> {}", left.join(" "), with(right), with(result));

    let weights: Vec<ValueId> = parts.iter().map(|part| rewrite.value(part.product.weight)).collect();
    let weight = stacked(rewrite, &weights, place(right))?;
    let mut wide = rewrite.node(MatMul::spec(&spec), &[rewrite.value(parts[0].product.x), weight])?[0];
    if parts.iter().any(|part| part.bias.is_some()) {
        let biases = biases(rewrite, site, parts)?;
        let bias = stacked(rewrite, &biases, 0)?;
        wide = rewrite.node(Add, &[wide, bias])?[0];
    }
    let dims: Vec<Extent> = site.ty(parts[0].result).extents().cloned().collect();
    let column = |i: u64| {
        let part = rewrite.node(Slice { dim: place(result), from: i, to: i + 1 }, &[wide])?[0];
        rewrite.node(Reshape { dims: dims.clone() }, &[part]).map(|results| results[0])
    };
    (0..parts.len() as u64).map(column).collect()
}

/// Values of one type along a new dimension.
fn stacked(rewrite: &mut Rewrite<'_>, values: &[ValueId], dim: usize) -> Result<ValueId, PassError> {
    let mut dims: Vec<Extent> = rewrite.builder.ty(values[0]).extents().cloned().collect();
    dims.insert(dim, Extent::number(1));
    let apart = |value: &ValueId| rewrite.node(Reshape { dims: dims.clone() }, &[*value]).map(|results| results[0]);
    let apart: Vec<ValueId> = values.iter().map(apart).collect::<Result<_, _>>()?;
    rewrite.node(Concat { dim }, &apart).map(|results| results[0])
}

/// Each part's bias, zeros where it has none; all of one type. Adding them costs a kernel a thousandth of what it reads
/// of the weight; to leave them out it would need an epilogue for some of its columns.
fn biases(rewrite: &mut Rewrite<'_>, site: &Site<'_>, parts: &[Part<'_>]) -> Result<Vec<ValueId>, PassError> {
    let given: Vec<Option<ValueId>> = parts.iter().map(|part| part.bias.as_ref().map(|bias| bias.bias)).collect();
    let types: Vec<&TensorType> = given.iter().flatten().map(|bias| site.ty(*bias)).collect();
    let same = types.iter().all(|ty| ty.dtype == types[0].dtype);
    let dtype = if same { types[0].dtype } else { DType::F32 };
    let extents: Vec<Extent> = types[0].extents().cloned().collect();
    let one = |bias: Option<ValueId>| match bias {
        Some(bias) if same => Ok(rewrite.value(bias)),
        Some(bias) => as_f32(rewrite, bias),
        None => {
            let zero = rewrite.node(Constant { dtype, shape: vec![], values: vec![0.0] }, &[])?[0];
            rewrite.node(Broadcast { leading: extents.clone() }, &[zero]).map(|results| results[0])
        }
    };
    given.into_iter().map(one).collect()
}

impl Wide {
    /// Whether the target has a kernel for every reader of a part that finds it in the wide product: else it would have
    /// to be copied.
    fn is_read_in_place(&self, site: &Site<'_>) -> Result<bool, PassError> {
        let Some(reads) = self.reads() else { return Ok(false) };
        for (reader, mut nodes) in reads {
            nodes.insert(reader);
            let nodes: Vec<usize> = nodes.into_iter().collect();
            let enters = callee(&self.graph.nodes[reader].op).is_some();
            if enters || site.cx.target.cost(&kernel_graph(&self.graph, &nodes, site.module, "kernel")?).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Nodes that read parts, each with the slices and reshapes by which it finds them; nothing if a part is returned.
    fn reads(&self) -> Option<BTreeMap<usize, BTreeSet<usize>>> {
        let (readers, definitions) = (self.graph.readers(), self.graph.definitions());
        let reshape = |part: &ValueId| definitions[part.index()].expect("a part is a slice, reshaped");
        let mut waiting: Vec<(ValueId, BTreeSet<usize>)> =
            self.parts.iter().map(|part| (*part, BTreeSet::from([reshape(part) - 1, reshape(part)]))).collect();
        let mut reads: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        while let Some((value, way)) = waiting.pop() {
            if self.graph.outputs.contains(&value) {
                return None;
            }
            for &reader in &readers[value.index()] {
                let node = &self.graph.nodes[reader];
                if matches!(node.op, Op::Reshape(_)) {
                    waiting.push((node.results[0], way.iter().copied().chain([reader]).collect()));
                } else {
                    reads.entry(reader).or_default().extend(&way);
                }
            }
        }
        Some(reads)
    }
}
