//! The rules, as data. Each makes a weight take over what was done to an activation, and never puts work back: the order
//! is that in which they are tried.
//!
//! "Exact" rules keep every bit; the others change f32 results by no more than another order of the same sums does.

use super::site::Site;
use super::{attention, products};
use crate::pass::PassError;
use bloomery_ir::Graph;

/// A one-way rewrite of one graph.
pub(super) struct Rule {
    /// Its name.
    pub(super) name: &'static str,
    /// Why the result is the same, and never worse.
    pub(super) reason: &'static str,
    /// The graph after one application, if there is a place for it.
    pub(super) apply: fn(&Site<'_>) -> Result<Option<Graph>, PassError>,
    /// The file that shows it at work.
    pub(super) case: &'static str,
}

/// All rules.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "scale-into-query",
        reason: "exact for a power of two that no weight is too small for; scores need no scaling",
        apply: attention::scale_into_query,
        case: "query-scale",
    },
    Rule {
        name: "norm-into-product",
        reason: "the product's weight takes the factor and its bias the shift; f32 weights alone, others would round",
        apply: products::norm_into_product,
        case: "norm",
    },
    Rule {
        name: "sum-of-biases",
        reason: "adds one bias instead of two",
        apply: products::sum_of_biases,
        case: "value-bias",
    },
    Rule {
        name: "key-bias",
        reason: "q.(k + b) is q.k + q.b, which is the same for all keys of a query, and softmax ignores that",
        apply: attention::key_bias,
        case: "key-bias",
    },
    Rule {
        name: "value-bias",
        reason: "weights of attention sum to one, so a bias of all values is a bias of what is read",
        apply: attention::value_bias,
        case: "value-bias",
    },
    Rule {
        name: "bias-through-product",
        reason: "a bias before a product is another one behind it, known beforehand",
        apply: products::bias_through_product,
        case: "value-bias",
    },
    Rule {
        name: "side-by-side",
        reason: "exact; products of one activation are one product, its results are columns that readers find in place",
        apply: products::side_by_side,
        case: "side-by-side",
    },
];
