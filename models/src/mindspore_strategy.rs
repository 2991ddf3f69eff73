//! Where MindFormers' Bloom has its parameters when ranks share it: of each stage, what MindSpore's compiler would write
//! into the stage's strategy file.
//!
//! One table says it: the parameters by MindFormers' names, in how many pieces each dimension is cut, and the operator
//! that takes it. Query, key, value and the MLP's first product are cut by what they give, the two others by what they
//! take; norms and the biases of the latter are whole. Ranks of a stage are `dp` times `mp`, `mp` fastest. The bytes of
//! such files are `formats`' subject, what our own ranks hold is the passes'.

use std::ops::Range;

use bloomery_configs::Strategy;
use bloomery_configs::strategy::mindformers_layers;

use crate::config::BloomConfig;

/// What one stage's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Operators that have a parameter.
    pub operators: Vec<Operator>,
    /// Parameters, the optimizer's states, and sums of gradients where there are stages.
    pub parameters: Vec<Parameter>,
}

/// An operator with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its kind, `_`, and its parameter's name.
    pub name: String,
    /// Into how many pieces each dimension of each input is cut.
    pub inputs: Vec<Vec<u32>>,
}

/// A parameter and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// MindFormers' name.
    pub name: String,
    /// The arrangement of the stage's ranks, which count along its last axis fastest.
    pub devices: Vec<u32>,
    /// For each dimension the axis of `devices` that cuts it, numbered from the right.
    pub cuts: Vec<Option<u32>>,
    /// How far a rank is from the next that shares its piece by the optimizer, if ranks do that.
    pub optimizer_step: Option<u32>,
}

/// Bytes of the smallest matrix that ranks share by the optimizer, unless MindSpore is told otherwise.
pub const SHARED_FROM: usize = 64 << 10;

/// The stages of a model with matrices of elements of so many bytes, of which ranks share by the optimizer those of
/// `shared_from` bytes on.
///
/// Layers that are to be balanced are dealt out as MindFormers does; with stages, the table is cut whatever
/// `vocab_emb_dp` says, as there; one that `mp` does not divide is whole.
///
/// # Panics
/// The strategy does not fit the model: see [`Strategy::check`].
pub fn stages(config: &BloomConfig, strategy: &Strategy, element: usize, shared_from: usize) -> Vec<Stage> {
    let divides = config.vocab % strategy.mp as usize == 0;
    let whole = !divides || (strategy.vocab_emb_dp && strategy.pp == 1);
    let made = Made { config, strategy, table: if whole { WHOLE_TABLE } else { CUT_TABLE }, element, shared_from };
    let mut first = 0;
    let layers = dealt(config, strategy).into_iter().map(|layers| {
        first += layers as usize;
        first - layers as usize..first
    });
    let last = strategy.pp - 1;
    layers.zip(0..).map(|(layers, stage)| made.stage(layers, stage == 0, stage == last)).collect()
}

/// Layers of each stage.
pub fn dealt(config: &BloomConfig, strategy: &Strategy) -> Vec<u32> {
    let layers = config.layers as u32;
    strategy.layers(layers).unwrap_or_else(|| mindformers_layers(layers, strategy.pp))
}

/// Into how many pieces a dimension is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    One,
    Dp,
    Mp,
}

use Pieces::{Dp, Mp, One};

/// What takes a parameter; what else it takes comes with its pieces.
#[derive(Clone, Copy)]
enum Taken {
    /// The right side of a product.
    MatMul(&'static [Pieces]),
    /// A bias.
    Add(&'static [Pieces]),
    /// The factor of a norm, whose second parameter is cut as it is.
    LayerNorm(&'static [Pieces]),
    /// Named with another.
    Beside,
}

/// A row of the table: a parameter, its extents by the names of their axes, its pieces, and what takes it.
struct Row {
    name: &'static str,
    axes: &'static [&'static str],
    pieces: &'static [Pieces],
    taken: Taken,
}

const fn row(name: &'static str, axes: &'static [&'static str], pieces: &'static [Pieces], taken: Taken) -> Row {
    Row { name, axes, pieces, taken }
}

const HIDDEN: &[&str] = &["hidden"];
const SQUARE: &[&str] = &["hidden", "hidden"];
/// Activations `[tokens, width]` whose width is whole, and whose width is cut.
const WHOLE: &[Pieces] = &[Dp, One];
const CUT: &[Pieces] = &[Dp, Mp];

/// A block's parameters, without `blocks.N.`.
#[rustfmt::skip]
const BLOCK: &[Row] = &[
    row("layernorm1.gamma",            HIDDEN,             &[One],     Taken::LayerNorm(WHOLE)),
    row("layernorm1.beta",             HIDDEN,             &[One],     Taken::Beside),
    row("attention.dense1.weight",     SQUARE,             &[Mp, One], Taken::MatMul(WHOLE)),
    row("attention.dense1.bias",       HIDDEN,             &[Mp],      Taken::Add(CUT)),
    row("attention.dense2.weight",     SQUARE,             &[Mp, One], Taken::MatMul(WHOLE)),
    row("attention.dense2.bias",       HIDDEN,             &[Mp],      Taken::Add(CUT)),
    row("attention.dense3.weight",     SQUARE,             &[Mp, One], Taken::MatMul(WHOLE)),
    row("attention.dense3.bias",       HIDDEN,             &[Mp],      Taken::Add(CUT)),
    row("attention.projection.weight", SQUARE,             &[Mp, One], Taken::MatMul(CUT)),
    row("attention.projection.bias",   HIDDEN,             &[One],     Taken::Add(WHOLE)),
    row("layernorm2.gamma",            HIDDEN,             &[One],     Taken::LayerNorm(WHOLE)),
    row("layernorm2.beta",             HIDDEN,             &[One],     Taken::Beside),
    row("output.mapping.weight",       &["hidden", "ffn"], &[One, Mp], Taken::MatMul(WHOLE)),
    row("output.mapping.bias",         &["ffn"],           &[Mp],      Taken::Add(CUT)),
    row("output.projection.weight",    &["ffn", "hidden"], &[Mp, One], Taken::MatMul(CUT)),
    row("output.projection.bias",      HIDDEN,             &[One],     Taken::Add(WHOLE)),
];

const LN_F: &[Row] = &[
    row("ln_f.gamma", HIDDEN, &[One], Taken::LayerNorm(&[Dp, One, One])),
    row("ln_f.beta", HIDDEN, &[One], Taken::Beside),
];

const EMBEDDING_NORM: &[Row] = &[
    row("embedding.norm.gamma", HIDDEN, &[One], Taken::LayerNorm(&[One, One, One])),
    row("embedding.norm.beta", HIDDEN, &[One], Taken::Beside),
];

/// The table of the embedding and the head, `[vocab, hidden]`.
const TABLE: &str = "embedding.word_embedding.embedding_table";
const CUT_TABLE: &[Pieces] = &[Mp, One];
const WHOLE_TABLE: &[Pieces] = &[One, One];

/// A model under a strategy.
struct Made<'a> {
    config: &'a BloomConfig,
    strategy: &'a Strategy,
    table: &'static [Pieces],
    element: usize,
    shared_from: usize,
}

impl Made<'_> {
    fn stage(&self, layers: Range<usize>, is_first: bool, is_last: bool) -> Stage {
        let mut operators = self.edges(&layers, is_first, is_last);
        let mut weights = Vec::new();
        if is_first || is_last {
            weights.push(self.weight(TABLE.to_owned(), self.table));
        }
        let mut add = |prefix: &str, rows: &[Row]| {
            for row in rows {
                let name = format!("{prefix}{}", row.name);
                operators.extend(self.operator(&name, row));
                weights.push(self.parameter(name, row));
            }
        };
        if is_first {
            add("", EMBEDDING_NORM);
        }
        layers.for_each(|layer| add(&format!("blocks.{layer}."), BLOCK));
        if is_last {
            add("", LN_F);
        }
        Stage { operators, parameters: self.with_states(weights) }
    }

    /// Operators of the table, and those that pass something from stage to stage.
    fn edges(&self, layers: &Range<usize>, is_first: bool, is_last: bool) -> Vec<Operator> {
        let [gather, product] = [[self.table, WHOLE], [WHOLE, self.table]];
        let layer = format!("blocks.{}.layernorm1.gamma", layers.start);
        let edges = match (is_first, is_last) {
            (true, true) => vec![("Gather", TABLE, gather), ("MatMul", TABLE, product)],
            (true, false) => vec![("Gather", TABLE, gather), ("Send", TABLE, gather)],
            (false, true) => vec![("Receive", &*layer, [WHOLE, WHOLE]), ("Receive", TABLE, product)],
            (false, false) => vec![("Receive", &*layer, [WHOLE, WHOLE])],
        };
        edges.iter().map(|(kind, parameter, inputs)| self.cut(kind, parameter, inputs)).collect()
    }

    fn operator(&self, parameter: &str, row: &Row) -> Option<Operator> {
        match row.taken {
            Taken::MatMul(left) => Some(self.cut("MatMul", parameter, &[left, row.pieces])),
            Taken::Add(left) => Some(self.cut("Add", parameter, &[left, row.pieces])),
            Taken::LayerNorm(left) => Some(self.cut("LayerNorm", parameter, &[left, row.pieces, row.pieces])),
            Taken::Beside => None,
        }
    }

    fn cut(&self, kind: &str, parameter: &str, inputs: &[&[Pieces]]) -> Operator {
        let inputs = inputs.iter().map(|input| input.iter().map(|pieces| self.count(*pieces)).collect()).collect();
        Operator { name: format!("{kind}_{parameter}"), inputs }
    }

    fn count(&self, pieces: Pieces) -> u32 {
        match pieces {
            One => 1,
            Dp => self.strategy.dp,
            Mp => self.strategy.mp,
        }
    }

    fn parameter(&self, name: String, row: &Row) -> Parameter {
        let Strategy { dp, mp, .. } = *self.strategy;
        let weight = self.weight(name, row.pieces);
        match row.taken {
            Taken::MatMul(_) if self.is_shared(row) => Parameter { optimizer_step: Some(mp), ..weight },
            // Its norm is the one operator of which nothing is cut, and then ranks have but one axis.
            _ if row.name.starts_with("embedding.") => Parameter { devices: vec![dp * mp], ..weight },
            _ => weight,
        }
    }

    /// A parameter that the optimizer's ranks do not share.
    fn weight(&self, name: String, pieces: &[Pieces]) -> Parameter {
        let Strategy { dp, mp, .. } = *self.strategy;
        let mut devices: Vec<u32> = [dp, mp].into_iter().filter(|ranks| *ranks > 1).collect();
        if devices.is_empty() {
            devices.push(1);
        }
        let cuts = pieces.iter().map(|pieces| (*pieces == Mp && mp > 1).then_some(0)).collect();
        Parameter { name, devices, cuts, optimizer_step: None }
    }

    /// Whether the `dp` ranks that would hold equal pieces of a matrix share them: if there are several, the matrix is large
    /// enough, and its first dimension can be cut once more.
    fn is_shared(&self, row: &Row) -> bool {
        let Strategy { dp, optimizer_shard, .. } = *self.strategy;
        let extents: Vec<usize> = row.axes.iter().map(|axis| extent(self.config, axis)).collect();
        let bytes = extents.iter().product::<usize>() * self.element;
        let rows = extents[0] / self.count(row.pieces[0]) as usize;
        optimizer_shard && dp > 1 && bytes >= self.shared_from && rows % dp as usize == 0
    }

    /// Weights, and what training keeps beside each, which lies where it lies.
    fn with_states(&self, weights: Vec<Parameter>) -> Vec<Parameter> {
        let gradients = (self.strategy.pp > 1).then_some("accu_grads.");
        let beside = ["", "adam_m.", "adam_v."].into_iter().chain(gradients);
        let named =
            |prefix, weight: &Parameter| Parameter { name: format!("{prefix}{}", weight.name), ..weight.clone() };
        beside.flat_map(|prefix| weights.iter().map(move |weight| named(prefix, weight))).collect()
    }
}

fn extent(config: &BloomConfig, axis: &str) -> usize {
    match axis {
        "hidden" => config.hidden,
        "ffn" => config.ffn(),
        other => unreachable!("the table names no axis {other}"),
    }
}

#[cfg(test)]
mod tests;
