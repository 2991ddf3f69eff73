//! Models whose work ranks share: every rank of the divided graphs against the whole ones, on the interpreter in f64.

use std::collections::BTreeSet;

use bloomery_codegen::cpu::Cpu;
use bloomery_ir::print::print;
use bloomery_ir::{Graph, Mesh, Module, Tensor, parse, verify};
use bloomery_models::bloom::Model;
use bloomery_models::config::BloomConfig;
use bloomery_models::{sizes, trial};
use bloomery_passes::certificate::{Certificate, Uncertified, certify};
use bloomery_passes::pipeline::Stage;
use bloomery_passes::{Context, PassError, Stages, Strategy, pipeline};

use crate::fixture::folder;
use crate::random::Random;

/// A model's graphs, small in what may vary.
pub(crate) fn model(fixture: &str) -> Model {
    trial::model(&BloomConfig::from_folder(&folder(fixture).join("model")).unwrap())
}

pub(crate) fn strategy(axes: &[(&str, u64)], split: &[(&str, &str)]) -> Strategy {
    Strategy {
        mesh: Mesh { axes: axes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect() },
        axes: split.iter().map(|(logical, axis)| ((*logical).to_owned(), (*axis).to_owned())).collect(),
        ..Strategy::default()
    }
}

/// Megatron's: heads, the ffn and the vocabulary over one axis; the vocabulary need not come out even.
pub(crate) fn megatron(mp: u64) -> Strategy {
    let strategy = strategy(&[("mp", mp)], &[("heads", "mp"), ("ffn", "mp"), ("vocab", "mp")]);
    Strategy { padded: BTreeSet::from(["vocab".to_owned()]), ..strategy }
}

pub(crate) fn divided(model: &Model, strategy: &Strategy) -> Result<Module, PassError> {
    let cx = Context { target: &Cpu, entries: &model.interfaces, strategy: Some(strategy), inference: None };
    match pipeline::run(model.module.clone(), &cx, Some("simplify"), &mut |_, _| {})? {
        Stage::Module(module) => Ok(module),
        other => panic!("{}", other.print()),
    }
}

/// Megatron's with tokens over the same axis: what lies between products is split by them.
pub(crate) fn sequence_parallel(mp: u64) -> Strategy {
    strategy(&[("mp", mp)], &[("heads", "mp"), ("ffn", "mp"), ("tokens", "mp"), ("vocab", "mp")])
}

/// Megatron's over two ranks, in two stages of a layer each.
pub(crate) fn megatron_in_stages() -> Strategy {
    let both = strategy(&[("pp", 2), ("mp", 2)], &[("heads", "mp"), ("ffn", "mp"), ("vocab", "mp")]);
    Strategy { stages: Stages::Layers(vec![1, 1]), ..both }
}

/// Inputs of a graph, with weights of a model's size, and so many tokens that ranks can share them.
pub(crate) fn inputs(graph: &Graph, multiple: u64, seed: u64) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    trial::inputs(graph, multiple, |ty, sizes| random.tensor(ty, sizes, (-0.5, 0.5), (0, trial::INDEX_MOST)))
}

/// The certificate of a model's divided graphs.
pub(crate) fn certified(model: &Model, divided: &Module, seed: u64) -> Result<Certificate, Uncertified> {
    let shared = divided.graphs.iter().flat_map(|graph| &graph.symbols).find(|symbol| symbol.name == "N");
    let multiple = shared.map_or(1, |symbol| symbol.least);
    let inputs = ["body", "head"].map(|name| (name, inputs(model.module.graph(name).unwrap(), multiple, seed)));
    certify(&model.module, divided, &inputs)
}

#[test]
fn ranks_together_compute_what_one_computes() {
    for (fixture, sizes) in
        [("tiny", &[2, 4][..]), ("tiny-postln", &[2]), ("tiny-untied", &[4]), ("tiny-nonpow2", &[2, 3, 6])]
    {
        let model = model(fixture);
        for &mp in sizes {
            let module = divided(&model, &megatron(mp));
            let module = module.unwrap_or_else(|error| panic!("{fixture}, mp = {mp}: {error}"));
            let certificate = certified(&model, &module, 3).unwrap_or_else(|e| panic!("{fixture}, mp = {mp}: {e}"));
            assert!(certificate.difference < 1e-12 && certificate.ranks == mp, "{fixture}: {certificate:?}");
            assert_eq!(parse(&print(&module)).as_ref(), Ok(&module));
        }
    }
}

/// Tokens that ranks share, rows of no sequence among them: seven tokens are no multiple of two.
#[test]
fn ranks_share_tokens_between_the_parts_that_they_share_otherwise() {
    let some = |axes: &[(&str, u64)], split: &[&str]| {
        let split: Vec<(&str, &str)> = split.iter().map(|logical| (*logical, "mp")).collect();
        strategy(axes, &split)
    };
    let whole_table = |mp| some(&[("mp", mp)], &["heads", "ffn", "tokens"]);
    for (fixture, strategy) in [
        ("tiny", sequence_parallel(2)),
        ("tiny", sequence_parallel(4)),
        ("tiny", whole_table(4)),
        ("tiny", some(&[("mp", 2)], &["tokens"])),
        ("tiny", some(&[("dp", 2), ("mp", 2)], &["heads", "tokens"])),
        ("tiny", strategy(&[("a", 2), ("b", 2)], &[("heads", "a"), ("ffn", "b"), ("tokens", "b"), ("vocab", "a")])),
        ("tiny", Strategy { stages: Stages::Balanced, ..some(&[("pp", 2), ("mp", 2)], &["heads", "ffn", "tokens"]) }),
        ("tiny-postln", sequence_parallel(2)),
        ("tiny-untied", sequence_parallel(4)),
        ("tiny-nonpow2", whole_table(3)),
    ] {
        let model = model(fixture);
        let module = divided(&model, &strategy).unwrap_or_else(|error| panic!("{fixture}, {strategy:?}: {error}"));
        let certificate = certified(&model, &module, 4).unwrap_or_else(|e| panic!("{fixture}, {strategy:?}: {e}"));
        assert!(certificate.difference < 1e-12, "{fixture}: {certificate:?}");
        assert_eq!(parse(&print(&module)).as_ref(), Ok(&module));
    }
}

/// A layer's sums are slices, twice; twice ranks join what a product needs. No rank has all of the stream.
#[test]
fn shared_tokens_are_joined_for_products_alone() {
    let module = divided(&model("tiny"), &sequence_parallel(4)).unwrap();
    let text = print(&module);
    let count =
        |graph: &str, op: &str| module.graph(graph).unwrap().nodes.iter().filter(|node| node.op.name() == op).count();
    let of = |graph| ["all_reduce", "reduce_scatter", "all_gather", "piece"].map(|op| count(graph, op));
    assert_eq!((of("block"), of("body")), ([0, 2, 2, 1], [0, 1, 1, 0]), "{text}");
    let block = module.graph("block").unwrap();
    let whole_norm = |node: &bloomery_ir::Node| {
        node.op.name() == "layer_norm" && block.ty(node.results[0]).dims[0].extent.to_string() != "N/mp"
    };
    assert!(!block.nodes.iter().any(whole_norm), "{text}");
}

/// Of a model too large to run, its narrow form is certified, and divided it is the same graphs but for extents.
#[test]
fn published_sizes_are_certified_by_their_narrow_forms() {
    let ops = |module: &Module| -> Vec<Vec<&'static str>> {
        module.graphs.iter().map(|graph| graph.nodes.iter().map(|node| node.op.name()).collect()).collect()
    };
    for name in sizes::names() {
        let config = sizes::by_name(name).unwrap();
        let wide = trial::model(&config);
        for mp in [2, 8] {
            let narrow = trial::model(&config.narrow(mp as usize));
            let [many, few] = [&wide, &narrow].map(|model| divided(model, &megatron(mp)).unwrap());
            assert_eq!(ops(&many), ops(&few), "{name}");
            let certificate = certified(&narrow, &few, 9).unwrap_or_else(|error| panic!("{name}, mp = {mp}: {error}"));
            assert!(certificate.compared > 1000, "{certificate:?}");
        }
    }
}

/// Rows that are left over, one less than a rank would have, ranks that have nothing but zeros; a tied table and a head of its
/// own; and nobody may have heads that do not come out even.
#[test]
fn vocabularies_need_not_come_out_even() {
    for (fixture, vocab, mp) in
        [("tiny", 513, 2), ("tiny", 15, 4), ("tiny-untied", 161, 4), ("tiny-untied", 9, 4), ("tiny-postln", 163, 2)]
    {
        let config = BloomConfig::from_folder(&folder(fixture).join("model")).unwrap();
        let model = trial::model(&BloomConfig { vocab, ..config });
        let module = divided(&model, &megatron(mp)).unwrap();
        let certificate = certified(&model, &module, 7).unwrap_or_else(|e| panic!("{fixture}, {vocab} by {mp}: {e}"));
        assert!(certificate.difference < 1e-12 && certificate.ranks == mp, "{fixture}: {certificate:?}");
        let head = module.graph("head").unwrap();
        assert_eq!(head.ty(head.outputs[0]).dims[1].extent.as_number(), Some(vocab as u64));
        assert_eq!(parse(&print(&module)).as_ref(), Ok(&module));
    }
    let mut other = megatron(3);
    other.padded.extend(["heads", "ffn"].map(str::to_owned));
    let refused = divided(&model("tiny"), &other).map(drop).unwrap_err().to_string();
    assert!(refused.contains("mp = 3 does not divide the 4 of axis heads of %h."), "{refused}");
}

#[test]
fn axes_of_a_mesh_can_share_apart() {
    let model = model("tiny");
    let apart = strategy(&[("a", 2), ("b", 2)], &[("heads", "a"), ("ffn", "b"), ("vocab", "b")]);
    assert!(certified(&model, &divided(&model, &apart).unwrap(), 5).unwrap().difference < 1e-12);
    let same = strategy(&[("mp", 2)], &[("heads", "mp"), ("head_dim", "mp")]);
    let refused = divided(&model, &same).map(drop).unwrap_err().to_string();
    assert!(refused.contains("mp would split two dimensions of %h.attention.query.weight"), "{refused}");
}

#[test]
fn every_rank_has_its_share_and_sums_are_paid_twice_a_layer() {
    let module = divided(&model("tiny"), &megatron(4)).unwrap();
    verify(&module).unwrap();
    let block = module.graph("block").unwrap();
    let collectives = |graph: &Graph| graph.nodes.iter().filter(|node| node.op.def().collective().is_some()).count();
    let of = |name: &str| collectives(module.graph(name).unwrap());
    assert_eq!((collectives(block), of("body"), of("head")), (2, 1, 1), "{}", print(&module));
    assert!(print(&module).contains("param %h.mlp.up.weight: f32[hidden=64, ffn=256/mp]"), "{}", print(&module));
}
