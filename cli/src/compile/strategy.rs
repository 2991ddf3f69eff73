//! How ranks share a model: from what people ask for to what passes do, and the proof that it changes nothing.
//!
//! The passes know logical axes and axes of the mesh; which is split over which is Megatron's layout: heads and the MLP's
//! width over `mp`, so that two sums a layer are all that ranks have to say to each other, and the vocabulary's rows; with
//! `sequence_parallel` tokens too, so that what lies between is shared and sums are slices, joined before products. The
//! certificate is of the model's narrow form, which is the same but for widths, divided by the same strategy.

use std::collections::BTreeSet;

use bloomery_codegen::cpu::Cpu;
use bloomery_configs::{self as configs, Shape, Strategy};
use bloomery_ir::{Bindings, Mesh, Program, Tensor, TensorType};
use bloomery_models::config::BloomConfig;
use bloomery_models::trial;
use bloomery_passes::certificate::{certify, certify_program};
use bloomery_passes::pipeline::{self, Stage};
use bloomery_passes::{self as passes, Context, Stages};
use serde::{Deserialize, Serialize};

use crate::{Error, Progress};

/// The axis that ranks share every layer along.
const MP: &str = "mp";
/// The axis of stages, which share the layers.
const PP: &str = "pp";
/// The logical axis of the vocabulary, the one that may get longer: no number of ranks that share heads is wrong for it.
const VOCAB: &str = "vocab";

/// That ranks together compute what one computes, and how near they come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certified {
    /// Ranks that were run, in f64.
    pub ranks: u64,
    /// Numbers of all ranks that were compared with those of one rank.
    pub compared: usize,
    /// The largest difference.
    pub difference: f64,
    /// The largest difference of what the program computes, in the types it is made for, of the largest value there is.
    pub program_difference: f64,
}

/// What passes are to do, if there are several ranks, and sentences for a person.
///
/// # Errors
/// A strategy that this model cannot have, or that is not there yet.
pub(crate) fn shared(
    strategy: &Strategy,
    config: &BloomConfig,
) -> Result<(Option<passes::Strategy>, Vec<String>), Error> {
    check_fits(strategy, config)?;
    let notes: Vec<String> = padding(strategy, config).into_iter().collect();
    let sizes = [(PP, strategy.pp), (MP, strategy.mp)].into_iter().filter(|(_, size)| *size > 1);
    let mesh = Mesh { axes: sizes.map(|(axis, size)| (axis.to_owned(), u64::from(size))).collect() };
    if mesh.ranks() == 1 {
        return Ok((None, notes));
    }
    let vocab = (!strategy.vocab_emb_dp).then_some(VOCAB);
    let tokens = strategy.sequence_parallel.then_some("tokens");
    let shared = ["heads", "ffn"].into_iter().chain(vocab).chain(tokens).filter(|_| strategy.mp > 1);
    let axes = shared.map(|axis| (axis.to_owned(), MP.to_owned())).collect();
    let padded = BTreeSet::from([VOCAB.to_owned()]);
    Ok((Some(passes::Strategy { mesh, axes, padded, stages: stages(strategy, config) }), notes))
}

/// Layers of each stage, if that is not left to costs.
fn stages(strategy: &Strategy, config: &BloomConfig) -> Stages {
    match strategy.layers(config.layers as u32) {
        _ if strategy.pp == 1 => Stages::One,
        Some(layers) => Stages::Layers(layers.into_iter().map(u64::from).collect()),
        None => Stages::Balanced,
    }
}

/// What there is to say where ranks share a vocabulary that does not come out even.
fn padding(strategy: &Strategy, config: &BloomConfig) -> Option<String> {
    let (mp, vocab) = (strategy.mp as usize, config.vocab);
    let rows = match vocab.next_multiple_of(mp) - vocab {
        0 => return None,
        1 => "1 row of zeros is".to_owned(),
        more => format!("{more} rows of zeros are"),
    };
    let note =
        format!("{mp} ranks share {vocab} rows of the vocabulary: {rows} added at the end, which nobody can choose");
    (!strategy.vocab_emb_dp).then_some(note)
}

/// That a model can be shared so, by ranks of artifacts or by others.
pub(super) fn check_fits(strategy: &Strategy, config: &BloomConfig) -> Result<(), Error> {
    let [hidden, layers, heads, vocab] = [config.hidden, config.layers, config.heads, config.vocab].map(|n| n as u64);
    let shape = Shape { hidden, layers, heads, vocab, expand_ratio: 4 };
    strategy.check(&shape).map_err(|error| {
        Error::Refused(format!("the strategy {strategy} does not fit the model: {error}; {}", error.way_out()))
    })
}

/// A program with as many replicas as the strategy has: they do the same with sequences of their own, which no pass needs to
/// know.
pub(crate) fn replicated(program: Program, strategy: &Strategy) -> Program {
    Program { replicas: u64::from(strategy.dp), ..program }
}

/// Proves a strategy for a model: its narrow form, whole and divided, on the interpreter in f64.
///
/// # Errors
/// The first thing that is not so: a mistake of the passes.
pub(crate) fn certified(strategy: &Strategy, config: &BloomConfig) -> Result<Option<Certified>, Error> {
    let (narrow, strategy) = &narrow(strategy, config);
    let (Some(shared), _) = shared(strategy, narrow)? else { return Ok(None) };
    let model = trial::model(narrow);
    let cx = Context { target: &Cpu, entries: &model.interfaces, strategy: Some(&shared), inference: None };
    // Graphs are compared as `simplify` leaves them: `group` only makes kernels of them, which the program shows.
    let mut divided = None;
    let stage = pipeline::run(model.module.clone(), &cx, None, &mut |name, stage| {
        if let ("simplify", Stage::Module(module)) = (name, stage) {
            divided = Some(module.clone());
        }
    })?;
    let (Some(divided), Stage::Program(program)) = (divided, stage) else { unreachable!("all passes make a program") };
    let multiple = if strategy.sequence_parallel { u64::from(strategy.mp) } else { 1 };
    let inputs = |name| {
        let mut state = 0x9E37_79B9_7F4A_7C15;
        let graph = model.module.graph(name).expect("the model's description has a body and a head");
        (name, trial::inputs(graph, multiple, |ty, sizes| some(ty, sizes, &mut state)))
    };
    let (whole, inputs) = (&model.module, ["body", "head"].map(inputs));
    let certificate = certify(whole, &divided, &inputs).and_then(|certificate| {
        let program = certify_program(whole, &divided, &program, &model.interfaces, &inputs)?;
        Ok((certificate, program))
    });
    let (certificate, program_difference) = certificate.map_err(|error| {
        Error::Refused(format!("the strategy {strategy} is not proven, a mistake of this program: {error}"))
    })?;
    let passes::certificate::Certificate { ranks, compared, difference } = certificate;
    Ok(Some(Certified { ranks, compared, difference, program_difference }))
}

/// A narrow model, and the strategy for it. Ranks keep one or two of their heads and stages of their layers: what goes wrong
/// with many goes wrong with two.
fn narrow(strategy: &Strategy, config: &BloomConfig) -> (BloomConfig, Strategy) {
    let mp = strategy.mp as usize;
    let narrow = BloomConfig { heads: mp * (config.heads / mp).min(2), ..config.clone() }.narrow(mp);
    let layers = strategy.layers(config.layers as u32);
    let layers = layers.unwrap_or_else(|| vec![2.min(config.layers as u32 / strategy.pp); strategy.pp as usize]);
    let layers: Vec<u32> = layers.into_iter().map(|layers| layers.min(2)).collect();
    let total: u32 = layers.iter().sum();
    (
        BloomConfig { layers: total as usize, ..narrow },
        Strategy { stages: configs::Stages::Layers(layers), ..strategy.clone() },
    )
}

/// As [`certified`], with word of it.
///
/// # Errors
/// As [`certified`]; an interruption.
pub(super) fn certificate(
    strategy: &Strategy,
    config: &BloomConfig,
    progress: &mut dyn Progress,
) -> Result<Option<Certified>, Error> {
    if shared(strategy, config)?.0.is_none() {
        return Ok(None);
    }
    progress.begin("prove the strategy", 0);
    let certified = certified(strategy, config)?;
    if let Some(Certified { ranks, compared, difference, .. }) = &certified {
        progress.end(&format!("{ranks} ranks, {compared} numbers differ by {difference:.1e} at most"));
    }
    progress.go_on()?;
    Ok(certified)
}

/// What artifacts hold of a proof, as JSON text; nothing for one rank.
///
/// # Errors
/// As [`certified`]; an interruption.
pub(crate) fn proven(strategy: &Strategy, config: &BloomConfig, progress: &mut dyn Progress) -> Result<String, Error> {
    let certified = certificate(strategy, config, progress)?;
    Ok(certified.map_or(String::new(), |certified| serde_json::to_string(&certified).expect("it is plain data")))
}

/// Numbers between -0.5 and 0.5, or from 0 to 6, the same every time (xorshift).
fn some(ty: &TensorType, sizes: &Bindings, state: &mut u64) -> Tensor {
    let shape = ty.shape(sizes).expect("all names have sizes");
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let unit = (*state >> 11) as f64 / (1u64 << 53) as f64;
        if ty.dtype.is_float() { unit - 0.5 } else { (unit * (trial::INDEX_MOST + 1) as f64).floor() }
    };
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|_| next()).collect();
    Tensor::new(ty.dtype, &shape, values)
}
