//! Artifacts for several ranks against Hugging Face's recordings: ranks share the work and nobody can tell.

use bloomery::bench::{BenchOptions, bench};
use bloomery::reshard::reshard;
use bloomery::targets::Target;
use bloomery::{Execution, Quiet};
use bloomery_artifact::{Artifact, Check};
use bloomery_configs::Strategy;
use bloomery_ir::DType;
use bloomery_models::config::WeightType;

use crate::compiled::{BEST, Compiled, How, INTERPRETER, MODELS, check_greedy, check_logits, compiled, standard};
use crate::fixture::Fixture;

/// A fixture's model, shared as this says.
fn shared(name: &str, strategy: &str, targets: Option<Vec<Target>>) -> Compiled {
    compiled(name, |options| {
        options.strategy = strategy.parse::<Strategy>().unwrap();
        options.targets = targets.clone().unwrap_or(options.targets.clone());
    })
}

/// Ranks that share tokens too, any number of them in a call: the session fills up with rows of no sequence.
#[test]
fn ranks_that_share_tokens_say_it_too() {
    for (name, strategies) in [
        ("tiny-nonpow2", &["mp=3", "mp=6", "mp=3,dp=2"][..]),
        ("tiny", &["mp=2", "mp=4", "mp=4,vocab_emb_dp=true", "mp=2,pp=2"]),
        ("tiny-bf16", &["mp=4"]),
        ("tiny-untied", &["mp=4"]),
        ("tiny-postln", &["mp=2"]),
    ] {
        let fixture = Fixture::open(name);
        for (i, strategy) in strategies.iter().enumerate() {
            let strategy = format!("{strategy},sequence_parallel=true");
            let model = shared(name, &strategy, Some(vec![Target::Interpreter]));
            check_logits(&fixture, &model, INTERPRETER);
            check_logits(&fixture, &model, How { chunk: 5, ..INTERPRETER });
            check_greedy(&fixture, &model, INTERPRETER);
            if i > 0 || name != "tiny-nonpow2" {
                continue;
            }
            let native = shared(name, &strategy, None);
            check_logits(&fixture, &native, BEST);
            check_greedy(&fixture, &native, BEST);
            let prompts = fixture.prompts();
            let whole = native.logits(BEST, &prompts);
            for (threads, chunk) in [(2, 512), (3, 7), (5, 1)] {
                assert!(native.logits(How { threads, chunk, ..BEST }, &prompts) == whole, "{name}: {threads} threads");
            }
        }
    }
}

/// Every model, every number of ranks that it allows. Stages and replicas change no bit of what ranks of one stage say.
#[test]
fn ranks_say_what_hugging_face_recorded_and_stages_and_replicas_change_no_bit() {
    for name in MODELS {
        let fixture = Fixture::open(name);
        let prompts = fixture.prompts();
        for mp in [1, 2, 4] {
            let interpreted = |strategy: &str| interpreted(&fixture, &format!("mp={mp},{strategy}"));
            let Some(base) = interpreted("pp=1") else { continue };
            check_logits(&fixture, &base, INTERPRETER);
            let expected = base.logits(INTERPRETER, &prompts);
            for strategy in ["dp=2", "pp=2", "dp=2,pp=2"] {
                let Some(model) = interpreted(strategy) else { continue };
                assert!(model.logits(INTERPRETER, &prompts) == expected, "{name}, mp={mp}, {strategy}");
            }
            let all = interpreted("dp=2,pp=2").unwrap_or(base);
            check_greedy(&fixture, &all, INTERPRETER);
        }
    }
}

/// A fixture's model for the interpreter, where its sizes allow the strategy.
fn interpreted(fixture: &Fixture, strategy: &str) -> Option<Compiled> {
    let Strategy { mp, pp, .. } = strategy.parse().unwrap();
    let fits = fixture.config.heads % mp as usize == 0 && fixture.config.layers >= pp as usize;
    fits.then(|| shared(&fixture.name, strategy, Some(vec![Target::Interpreter])))
}

/// Three stages, uneven ones, more replicas than sequences; vocabularies that ranks cannot share, or are told not to.
#[test]
fn odd_strategies_do_too() {
    for (name, strategies) in [
        ("tiny", &["mp=4,vocab_emb_dp=true"][..]),
        ("tiny-eps", &["pp=3", "pp=2,stages=1:2", "pp=2,stages=mindformers", "dp=7"]),
        ("tiny-nonpow2", &["mp=3", "mp=6", "mp=3,pp=2", "dp=3,mp=3,pp=2"]),
    ] {
        let fixture = Fixture::open(name);
        for strategy in strategies {
            let model = interpreted(&fixture, strategy).unwrap();
            let asked: Strategy = strategy.parse().unwrap();
            assert_eq!(model.artifact.program().ranks(), asked.ranks());
            check_logits(&fixture, &model, INTERPRETER);
            check_greedy(&fixture, &model, INTERPRETER);
        }
    }
}

#[test]
fn machine_code_of_stages_has_the_bits_of_one_rank() {
    let (fixture, one) = (Fixture::open("tiny-eps"), standard("tiny-eps"));
    let (prompts, how) = (fixture.prompts(), How { threads: 2, chunk: 5, ..BEST });
    let model = shared("tiny-eps", "dp=2,pp=3", None);
    assert!(model.logits(how, &prompts) == one.logits(BEST, &prompts));
    check_greedy(&fixture, &model, how);
    profiles(&model);
}

/// Every launch and every copy between ranks is timed, which builds with assertions count.
fn profiles(model: &Compiled) {
    let options = BenchOptions {
        artifact: model.path.clone(),
        prompt_tokens: 8,
        new_tokens: 2,
        batch: 2,
        context: None,
        repeats: 1,
        profile: true,
        execution: Execution { threads: Some(2), ..Execution::default() },
    };
    let profile = bench(&options, &mut Quiet).unwrap().profile.expect("it was asked for");
    assert!(profile.kernels.iter().any(|kernel| kernel.name == "copy"), "{profile:?}");
}

#[test]
fn machine_code_of_ranks_says_it_too_on_any_number_of_threads() {
    for (name, strategy) in [("tiny-nonpow2", "mp=3"), ("tiny-fp16", "mp=2")] {
        let (fixture, model) = (Fixture::open(name), shared(name, strategy, None));
        check_logits(&fixture, &model, BEST);
        check_greedy(&fixture, &model, BEST);
        let prompts = fixture.prompts();
        let whole = model.logits(BEST, &prompts);
        for (threads, chunk) in [(2, 512), (3, 7), (5, 1)] {
            assert!(model.logits(How { threads, chunk, ..BEST }, &prompts) == whole, "{name}: {threads} threads");
        }
        profiles(&model);
    }
}

/// Every rank has its part of the large matrices, and one copy of what all ranks have.
#[test]
fn weights_lie_there_once() {
    let [whole, divided] = ["mp=1", "mp=4"].map(|s| shared("tiny", s, Some(vec![Target::Interpreter])));
    let bytes = [&whole, &divided].map(|model| model.artifact.weight_table().bytes as f64);
    assert!((bytes[1] / bytes[0] - 1.0).abs() < 0.05, "{bytes:?}");
    let program = divided.artifact.program();
    let parts = |name: &str| {
        let parameter = program.parameters.iter().find(|parameter| parameter.name.contains(name)).unwrap();
        (parameter.parts(&program.mesh), parameter.whole(&program.mesh).to_string())
    };
    assert_eq!(parts("h.mlp.down.weight"), (4, "f32[2, ffn=256, hidden=64]".to_owned()));
    assert_eq!(parts("h.mlp.down.bias").0, 1);
}

/// Every rank has its part of a table that does not come out even, and the last one zeros at its end; the model says nothing
/// of them.
#[test]
fn vocabularies_that_do_not_come_out_even_are_shared() {
    let model = shared("tiny-nonpow2", "mp=3", Some(vec![Target::Interpreter]));
    let (program, meta) = (model.artifact.program(), model.artifact.meta());
    let note =
        "3 ranks share 256 rows of the vocabulary: 2 rows of zeros are added at the end, which nobody can choose";
    assert!(meta.notes.iter().any(|other| other == note), "{:?}", meta.notes);
    let (number, table) =
        program.parameters.iter().enumerate().find(|(_, p)| p.name == "word_embeddings.weight").unwrap();
    assert_eq!((table.parts(&program.mesh), table.ty.to_string()), (3, "f32[vocab=86, hidden=96]".to_owned()));
    let logits = &program.ios[program.io("logits").unwrap()];
    assert_eq!((meta.vocabulary, logits.ty.to_string()), (256, "f32[R, 256]".to_owned()));
    let [first, last] = [0, 2].map(|part| {
        let range = model.artifact.weight_table().placements[number].range(0, part);
        let whole = &model.artifact.weights()[range.start as usize..range.end as usize];
        let element = |row: usize, k: usize| {
            let position = table.layout.position(&[86, 96], DType::F32, &[row, k]);
            f32::from_le_bytes(whole[4 * position..][..4].try_into().unwrap())
        };
        (0..86).map(|row| (0..96).all(|k| element(row, k).to_bits() == 0)).collect::<Vec<bool>>()
    });
    assert!(!first.contains(&true) && !last[..84].contains(&true) && last[84..] == [true, true]);
}

/// From its own weights, whatever types and layouts these have, an artifact becomes what `compile` would have made.
#[test]
fn resharded_artifacts_are_compiled_ones_byte_for_byte() {
    use WeightType::{Bf16, F32};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resharded.bloom");
    for (name, dtype, strategies) in [
        ("tiny", F32, &["mp=1", "mp=4", "mp=2", "mp=2,vocab_emb_dp=true", "mp=2,sequence_parallel=true", "mp=1"][..]),
        // With rows of zeros and without, and back.
        (
            "tiny-nonpow2",
            F32,
            &["mp=6", "mp=3", "mp=2", "mp=3", "mp=1", "mp=6", "mp=6,vocab_emb_dp=true", "mp=3,pp=2,dp=2"],
        ),
        ("tiny-nonpow2", Bf16, &["mp=1", "mp=3", "mp=6", "mp=1"]),
        ("tiny-fp16", F32, &["mp=1", "mp=2"]),
        ("tiny-untied", F32, &["mp=2", "mp=4"]),
    ] {
        let made = |strategy: &&str| {
            compiled(name, |options| {
                options.strategy = strategy.parse().unwrap();
                (options.targets, options.dtype) = (vec![Target::Interpreter], Some(dtype));
            })
        };
        let compiled: Vec<Compiled> = strategies.iter().map(made).collect();
        for (pair, strategy) in compiled.windows(2).zip(&strategies[1..]) {
            reshard(&pair[0].path, &path, &strategy.parse().unwrap(), &mut Quiet).unwrap();
            let same = std::fs::read(&path).unwrap() == std::fs::read(&pair[1].path).unwrap();
            assert!(same, "{name}, {dtype}, {strategy}");
        }
    }
    // In its own place.
    std::fs::copy(&shared("tiny", "mp=1", Some(vec![Target::Interpreter])).path, &path).unwrap();
    reshard(&path, &path, &"mp=2".parse().unwrap(), &mut Quiet).unwrap();
    assert_eq!(Artifact::open(&path, Check::Full).unwrap().program().mesh.ranks(), 2);
}
