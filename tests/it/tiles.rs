//! Compiled models whose products run on matrix tiles, by the plain definitions: any machine runs them, none fast.

use std::sync::Arc;

use bloomery::compile::{CompileOptions, Compute};
use bloomery::inspect::{Inspection, inspect};
use bloomery::targets::Target;
use bloomery_codegen::cpu::Class;
use bloomery_ir::Tensor;
use bloomery_models::config::WeightType;

use crate::compiled::{Compiled, How, check_logits, shared};
use crate::fixture::{Fixture, assert_close};

const MODEL: &str = "tiny-bf16";
const TILES: How = How { class: Some("plain-tiles"), threads: 1, chunk: 512 };

/// The model with weights of bf16, for tiles; and for vectors, where those round activations too.
fn model(compute: Compute) -> Arc<Compiled> {
    shared(&format!("{MODEL}-tiles-{}", compute.name()), MODEL, |options: &mut CompileOptions| {
        options.dtype = Some(WeightType::Bf16);
        options.kv_dtype = Some(WeightType::F32);
        options.compute = compute;
        options.targets = vec![Target::Cpu(Class::PlainTiles)];
        options.targets.extend((compute == Compute::Bf16).then_some(Target::Cpu(Class::Plain)));
    })
}

/// Two prompts of a few tokens, more than a tile has rows together.
fn short_prompts() -> Vec<Vec<u32>> {
    vec![(5..17).collect(), (40..47).collect()]
}

#[test]
fn three_pieces_on_tiles_are_as_exact_as_f32() {
    check_logits(&Fixture::open(MODEL), &model(Compute::F32), TILES);
}

#[test]
fn batches_chunks_and_threads_change_no_bit_on_tiles() {
    let prompts = short_prompts();
    for compute in [Compute::F32, Compute::Bf16] {
        let model = model(compute);
        let whole = model.logits(TILES, &prompts);
        for (threads, chunk) in [(2, 512), (1, 1), (3, 3)] {
            let found = model.logits(How { threads, chunk, ..TILES }, &prompts);
            assert!(found == whole, "{compute:?}: {threads} threads, chunks of {chunk}");
        }
        let alone: Vec<Tensor> =
            prompts.iter().map(|prompt| model.logits(TILES, std::slice::from_ref(prompt)).remove(0)).collect();
        assert!(alone == whole, "{compute:?}: each prompt alone");
    }
}

/// Where the last digit of f32 decides how an activation is rounded, ways part by 2^-9 of that activation.
#[test]
fn rounded_activations_are_those_of_the_interpreter() {
    let (model, prompts) = (model(Compute::Bf16), short_prompts());
    let of = |class| model.logits(How { class: Some(class), ..TILES }, &prompts[..1]).remove(0);
    let expected = of("interpreter");
    for class in ["plain-tiles", "plain"] {
        assert_close(&format!("{MODEL} on {class}"), &of(class), &expected, 5e-3);
    }
    let exact = self::model(Compute::F32).logits(TILES, &prompts[..1]).remove(0);
    assert!(of("plain-tiles") != exact, "they are rounded");
}

#[test]
fn an_artifact_says_which_products_run_on_tiles() {
    for (compute, pieces) in [(Compute::F32, 3), (Compute::Bf16, 1)] {
        let model = model(compute);
        let Inspection::Artifact(view) = inspect(&model.path).unwrap() else { panic!("it is an artifact") };
        assert_eq!(view.tiles.keys().collect::<Vec<_>>(), ["plain-tiles"]);
        let tiles = &view.tiles["plain-tiles"];
        assert_eq!((tiles.pieces, tiles.kernels), (pieces, view.plan.kernels["contraction"]));
        assert_eq!(view.options["compute"], compute.name());
        assert_eq!(view.options.contains_key("compute-error"), compute == Compute::Bf16);
    }
}
