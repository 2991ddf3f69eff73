//! Models whose work ranks share: every rank of the divided graphs against the whole ones, on the interpreter in f64.

use bloomery_codegen::cpu::Cpu;
use bloomery_ir::interpret::shard;
use bloomery_ir::print::print;
use bloomery_ir::{Bindings, Graph, Interpreter, Mesh, Module, Precision, Tensor, parse, verify};
use bloomery_models::bloom::{BloomOptions, Model, bloom};
use bloomery_models::config::BloomConfig;
use bloomery_passes::pipeline::Stage;
use bloomery_passes::{Context, PassError, Strategy, pipeline};

use crate::fixture::folder;
use crate::random::Random;

/// Tokens, sequences, pages of a sequence, pages of the cache, rows that logits are wanted of.
const SIZES: [(&str, u64); 5] = [("N", 7), ("S", 3), ("P", 2), ("C", 6), ("R", 4)];

/// A model's graphs, small in what may vary.
fn model(fixture: &str) -> Model {
    let config = BloomConfig::from_folder(&folder(fixture).join("model")).unwrap();
    let options =
        BloomOptions { page_tokens: 4, chunk: 16, sequences: 4, pages: 4, pool: 8, ..BloomOptions::default() };
    bloom(&config, &options)
}

fn strategy(axes: &[(&str, u64)], split: &[(&str, &str)]) -> Strategy {
    Strategy {
        mesh: Mesh { axes: axes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect() },
        axes: split.iter().map(|(logical, axis)| ((*logical).to_owned(), (*axis).to_owned())).collect(),
    }
}

/// Megatron's: heads, the ffn and the vocabulary over one axis.
fn megatron(mp: u64) -> Strategy {
    strategy(&[("mp", mp)], &[("heads", "mp"), ("ffn", "mp"), ("vocab", "mp")])
}

fn divided(model: &Model, strategy: &Strategy) -> Result<Module, PassError> {
    let cx = Context { target: &Cpu, entries: &model.interfaces, strategy: Some(strategy), inference: None };
    match pipeline::run(model.module.clone(), &cx, Some("simplify"), &mut |_, _| {})? {
        Stage::Module(module) => Ok(module),
        other => panic!("{}", other.print()),
    }
}

/// Inputs of a graph: three sequences, one of them begun before, and weights of a model's size.
fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    let names: Bindings = SIZES.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
    let of = |input: &bloomery_ir::Input| match input.name.as_str() {
        "rows" => Tensor::new(input.ty.dtype, &[3, 3], vec![0.0, 3.0, 2.0, 3.0, 1.0, 0.0, 4.0, 3.0, 0.0]),
        "pages" => Tensor::new(input.ty.dtype, &[3, 2], vec![5.0, 0.0, 2.0, 0.0, 1.0, 3.0]),
        _ => random.tensor(&input.ty, &names, (-0.5, 0.5), (0, 6)),
    };
    graph.inputs.iter().map(of).collect()
}

/// The largest difference between what ranks make of the inputs' slices and the slices of what one rank makes of all.
fn difference(whole: &Module, divided: &Module, seed: u64) -> Result<f64, String> {
    let mut most = 0.0_f64;
    for name in ["body", "head"] {
        let (one, many) = (whole.graph(name).unwrap(), divided.graph(name).unwrap());
        let given = inputs(one, seed);
        let expected = Interpreter::new(whole, Precision::Double).run(name, &given).unwrap();
        let slices = |rank| {
            let pairs = many.inputs.iter().zip(&given);
            pairs.map(|(input, tensor)| shard(tensor, &input.ty, &divided.mesh, rank)).collect::<Vec<_>>()
        };
        let ranks: Vec<Vec<Tensor>> = (0..divided.mesh.ranks()).map(slices).collect();
        let found = Interpreter::new(divided, Precision::Double).run_ranks(name, &ranks).map_err(|e| e.to_string())?;
        for (rank, outputs) in found.iter().enumerate() {
            for ((found, expected), value) in outputs.iter().zip(&expected).zip(&many.outputs) {
                let expected = shard(expected, many.ty(*value), &divided.mesh, rank as u64);
                most = most.max(found.difference(&expected));
            }
        }
    }
    Ok(most)
}

#[test]
fn ranks_together_compute_what_one_computes() {
    for (fixture, sizes) in
        [("tiny", &[2, 4][..]), ("tiny-postln", &[2]), ("tiny-untied", &[4]), ("tiny-nonpow2", &[2, 3])]
    {
        let model = model(fixture);
        for &mp in sizes {
            // The vocabulary is shared where it can be.
            let module = divided(&model, &megatron(mp))
                .or_else(|_| divided(&model, &strategy(&[("mp", mp)], &[("heads", "mp"), ("ffn", "mp")])));
            let module = module.unwrap_or_else(|error| panic!("{fixture}, mp = {mp}: {error}"));
            let difference = difference(&model.module, &module, 3).unwrap();
            assert!(difference < 1e-12, "{fixture}, mp = {mp}: {difference}");
            assert_eq!(parse(&print(&module)).as_ref(), Ok(&module));
        }
    }
}

#[test]
fn axes_of_a_mesh_can_share_apart() {
    let model = model("tiny");
    let apart = strategy(&[("a", 2), ("b", 2)], &[("heads", "a"), ("ffn", "b"), ("vocab", "b")]);
    assert!(difference(&model.module, &divided(&model, &apart).unwrap(), 5).unwrap() < 1e-12);
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
