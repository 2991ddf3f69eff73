//! Rules around attention over a cache: scales and biases that softmax does not see, or lets through.
//!
//! Keys and values are read by later calls too, so a bias may leave them only where every key of every query leaves it
//! behind: see [`closed_append`]. Rows of no sequence come out of attention as zeros, and with a bias added behind it as
//! that; nobody reads them.

use super::site::{Biased, Site, callers, only_repeat};
use crate::pass::PassError;
use bloomery_ir::graph::{Node, Role};
use bloomery_ir::ops::add::Add;
use bloomery_ir::ops::alibi_attention::AlibiAttention;
use bloomery_ir::ops::scale::Scale;
use bloomery_ir::{Graph, Module, Op, ValueId};

/// `alibi_attention(x @ w + b, ..) {scale}` is `alibi_attention(x @ (scale w) + scale b, ..) {1}`.
pub(super) fn scale_into_query(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    for (attention, node) in site.graph.nodes.iter().enumerate() {
        let Op::AlibiAttention(AlibiAttention { scale }) = node.op else { continue };
        let Some(query) = projection(site, node.operands[0], attention).filter(|_| is_negative_power(scale)) else {
            continue;
        };
        let mut weights = [query.weight].into_iter().chain(query.bias.as_ref().map(|bias| bias.bias));
        if weights.all(|weight| scales_exactly(site, weight, scale)) {
            return scaled(site, attention, &query, scale).map(Some);
        }
    }
    Ok(None)
}

/// The graph whose query has the scale of its attention.
fn scaled(site: &Site<'_>, attention: usize, query: &Projection, scale: f64) -> Result<Graph, PassError> {
    site.rebuilt(|rewrite, i, node| {
        if i == attention {
            let operands = rewrite.values(&node.operands);
            return rewrite.node(AlibiAttention { scale: 1.0 }, &operands).map(Some);
        }
        let (x, weight) = match &query.bias {
            _ if i == query.product => (node.operands[0], query.weight),
            Some(bias) if i == bias.node => (bias.x, bias.bias),
            _ => return Ok(None),
        };
        let weight = rewrite.node(Scale { by: scale }, &[rewrite.value(weight)])?[0];
        rewrite.node(node.op.clone(), &[rewrite.value(x), weight]).map(Some)
    })
}

/// `x @ w`, perhaps with a bias.
struct Projection {
    product: usize,
    weight: ValueId,
    bias: Option<Biased>,
}

/// A value of f32 that only `reader` reads as the product of something with a weight of its own.
fn projection(site: &Site<'_>, value: ValueId, reader: usize) -> Option<Projection> {
    let bias = site.biased(value);
    let (product, reader_of_product) = bias.as_ref().map_or((value, reader), |bias| (bias.x, bias.node));
    let (node, Node { op: Op::MatMul(_), operands, .. }) = site.maker(product)? else { return None };
    let weight = operands[1];
    let alone = site.is_read_by(value, reader) && site.is_read_by(product, reader_of_product);
    let fits = alone && site.is_f32(value) && site.is_f32(product) && site.is_replaceable(weight);
    fits.then_some(Projection { product: node, weight, bias })
}

/// Whether a number is a half, a quarter, an eighth..
fn is_negative_power(by: f64) -> bool {
    by < 1.0 && by.is_normal() && by.is_sign_positive() && by.to_bits().trailing_zeros() >= f64::MANTISSA_DIGITS - 1
}

/// Whether a weight is a checkpoint's own, none of whose elements loses digits.
fn scales_exactly(site: &Site<'_>, weight: ValueId, by: f64) -> bool {
    let name = site.origins.get(weight.index()).and_then(Option::as_ref);
    name.is_some_and(|name| site.weights.scales_exactly(name, site.ty(weight).dtype, by))
}

/// `cache_append(kv, k + b, v, ..)` is `cache_append(kv, k, v, ..)` to every attention.
pub(super) fn key_bias(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    without_bias(site, 1, |_| true)
}

/// `alibi_attention(q, cache_append(kv, k, v + b, ..), ..)` is `alibi_attention(q, cache_append(kv, k, v, ..), ..) + b`,
/// where products follow that take the bias on.
pub(super) fn value_bias(site: &Site<'_>) -> Result<Option<Graph>, PassError> {
    without_bias(site, 2, |readers| readers.iter().all(|attention| products_follow(site, *attention)))
}

/// Takes the bias off an operand of a cache's writer; that of values is added to what attention reads.
fn without_bias(
    site: &Site<'_>,
    operand: usize,
    pays: impl Fn(&[usize]) -> bool,
) -> Result<Option<Graph>, PassError> {
    let Some(Append { append, readers }) = closed_append(site) else { return Ok(None) };
    let value = site.graph.nodes[append].operands[operand];
    let Some(Biased { x, bias, .. }) = site.biased(value) else { return Ok(None) };
    if !site.is_read_by(value, append) || site.ty(x) != site.ty(value) || !pays(&readers) {
        return Ok(None);
    }
    let changed = site.rebuilt(|rewrite, i, node| {
        let mut operands = rewrite.values(&node.operands);
        if i == append {
            operands[operand] = rewrite.value(x);
            return rewrite.node(node.op.clone(), &operands).map(Some);
        }
        if operand == 1 || !readers.contains(&i) {
            return Ok(None);
        }
        let read = rewrite.node(node.op.clone(), &operands)?[0];
        rewrite.node(Add, &[read, rewrite.value(bias)]).map(Some)
    });
    changed.map(Some)
}

/// Whether nothing but products with weights reads what an attention gives.
fn products_follow(site: &Site<'_>, attention: usize) -> bool {
    let read = site.graph.nodes[attention].results[0];
    let readers = &site.readers[read.index()];
    let product = |reader: &usize| {
        let node = &site.graph.nodes[*reader];
        matches!(node.op, Op::MatMul(_)) && node.operands[0] == read && site.is_weight(node.operands[1])
    };
    site.is_f32(read) && !readers.is_empty() && readers.iter().all(product) && !site.graph.outputs.contains(&read)
}

/// The writer of a cache, and the attentions that read it.
struct Append {
    append: usize,
    readers: Vec<usize>,
}

/// The one writer of a graph's cache, when every key and value in there comes from it: the cache is a state, this is all
/// of the module that touches caches, each layer once, and what it returns replaces the state.
fn closed_append(site: &Site<'_>) -> Option<Append> {
    let touches = |graph: &Graph| graph.nodes.iter().any(|node| touches_cache(&node.op));
    let alone = site.module.graphs.iter().all(|graph| graph.name == site.graph.name || !touches(graph));
    let appends: Vec<usize> =
        (0..site.graph.nodes.len()).filter(|&i| matches!(site.graph.nodes[i].op, Op::CacheAppend(_))).collect();
    let [append] = appends[..] else { return None };
    let node = &site.graph.nodes[append];
    let (before, after) = (node.operands[0], node.results[0]);
    let is_state = site.graph.inputs.get(before.index()).is_some_and(|input| input.role == Role::State);
    let readers = site.readers[after.index()].clone();
    let reads = |&i: &usize| {
        let node = &site.graph.nodes[i];
        matches!(node.op, Op::AlibiAttention(_)) && node.operands.iter().filter(|o| **o == after).count() == 1
            && node.operands[1] == after
    };
    let returned = site.graph.outputs.iter().filter(|output| **output == after).count() == 1;
    let closed = alone && is_state && !readers.is_empty() && site.is_read_by(before, append) && returned && readers.iter().all(reads);
    (closed && enters_once(site.module, &site.graph.name)).then_some(Append { append, readers })
}

fn touches_cache(op: &Op) -> bool {
    matches!(op, Op::CacheAppend(_) | Op::AlibiAttention(_))
}

/// Whether callers enter a graph themselves, or by one repeat.
fn enters_once(module: &Module, name: &str) -> bool {
    callers(module, name).is_empty() || only_repeat(module, name).is_some()
}
