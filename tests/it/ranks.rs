//! Artifacts for several ranks against Hugging Face's recordings: ranks share the work and nobody can tell.

use bloomery::Quiet;
use bloomery::reshard::reshard;
use bloomery::targets::Target;
use bloomery_artifact::{Artifact, Check};
use bloomery_configs::Strategy;

use crate::compiled::{BEST, Compiled, How, INTERPRETER, MODELS, check_greedy, check_logits, compiled};
use crate::fixture::Fixture;

/// A fixture's model, shared as this says.
fn shared(name: &str, strategy: &str, targets: Option<Vec<Target>>) -> Compiled {
    compiled(name, |options| {
        options.strategy = strategy.parse::<Strategy>().unwrap();
        options.targets = targets.clone().unwrap_or(options.targets.clone());
    })
}

/// Vocabularies that ranks share, that they cannot, and that they are told not to; tied heads and others.
#[test]
fn ranks_say_what_hugging_face_recorded() {
    for (name, strategies) in [
        ("tiny", &["mp=2", "mp=4", "mp=4,vocab_emb_dp=true"][..]),
        ("tiny-nonpow2", &["mp=2", "mp=3", "mp=6"]),
        ("tiny-fp16", &["mp=2"]),
        ("tiny-bf16", &["mp=4"]),
        ("tiny-untied", &["mp=2", "mp=4"]),
        ("tiny-postln", &["mp=2", "mp=4"]),
        ("tiny-eps", &["mp=2"]),
        ("tiny-bin", &["mp=2", "mp=4"]),
        ("tiny-sharded", &["mp=2"]),
    ] {
        let fixture = Fixture::open(name);
        for strategy in strategies {
            let model = shared(name, strategy, Some(vec![Target::Interpreter]));
            assert_eq!(model.artifact.program().mesh.ranks(), u64::from(strategy.parse::<Strategy>().unwrap().mp));
            check_logits(&fixture, &model, INTERPRETER);
            check_greedy(&fixture, &model, INTERPRETER);
        }
    }
}

/// Ranks that share tokens too, any number of them in a call: the session fills up with rows of no sequence.
#[test]
fn ranks_that_share_tokens_say_it_too() {
    for (name, strategies) in [
        ("tiny", &["mp=2", "mp=4", "mp=4,vocab_emb_dp=true", "mp=2,pp=2", "mp=2,dp=2"][..]),
        ("tiny-nonpow2", &["mp=3", "mp=6"]),
        ("tiny-fp16", &["mp=2"]),
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
            if i > 0 {
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

/// Stages and replicas change no bit of what ranks of one stage say, and Hugging Face recorded that, for every model and
/// every number of ranks that it allows.
#[test]
fn stages_and_replicas_change_no_bit() {
    for name in MODELS {
        let fixture = Fixture::open(name);
        let prompts = fixture.prompts();
        for mp in [1, 2, 4] {
            let interpreted = |strategy: &str| try_shared(name, &format!("mp={mp},{strategy}"));
            let Some(base) = interpreted("pp=1") else { continue };
            check_logits(&fixture, &base, INTERPRETER);
            let expected = base.logits(INTERPRETER, &prompts);
            for strategy in ["dp=2", "pp=2", "dp=2,pp=2"] {
                let Some(model) = interpreted(strategy) else { continue };
                assert!(model.logits(INTERPRETER, &prompts) == expected, "{name}, mp={mp}, {strategy}");
                if strategy == "dp=2,pp=2" {
                    check_greedy(&fixture, &model, INTERPRETER);
                }
            }
        }
    }
}

/// As [`shared`] for the interpreter, where the model's sizes allow it.
fn try_shared(name: &str, strategy: &str) -> Option<Compiled> {
    let asked: Strategy = strategy.parse().unwrap();
    let Fixture { config, .. } = Fixture::open(name);
    let fits = config.heads % asked.mp as usize == 0 && config.layers >= asked.pp as usize;
    fits.then(|| shared(name, strategy, Some(vec![Target::Interpreter])))
}

/// Three stages, uneven ones, more replicas than sequences.
#[test]
fn odd_numbers_of_stages_and_replicas_do_too() {
    for (name, mp, strategies) in [
        ("tiny-eps", 1, &["pp=3", "pp=2,stages=1:2", "pp=2,stages=mindformers", "dp=7"][..]),
        ("tiny-nonpow2", 3, &["pp=2", "dp=3,pp=2"]),
    ] {
        let fixture = Fixture::open(name);
        let [interpreter, native] = [Some(vec![Target::Interpreter]), None];
        let expected = shared(name, &format!("mp={mp}"), native.clone()).logits(BEST, &fixture.prompts());
        for (i, strategy) in strategies.iter().enumerate() {
            let strategy = format!("mp={mp},{strategy}");
            let model = shared(name, &strategy, if i == 0 { native.clone() } else { interpreter.clone() });
            let how = if i == 0 { How { threads: 2, chunk: 5, ..BEST } } else { INTERPRETER };
            check_logits(&fixture, &model, how);
            check_greedy(&fixture, &model, how);
            assert!(i > 0 || model.logits(how, &fixture.prompts()) == expected, "{name}, {strategy}");
        }
    }
}

#[test]
fn machine_code_of_ranks_says_it_too_on_any_number_of_threads() {
    for (name, strategy) in [("tiny", "mp=4"), ("tiny-nonpow2", "mp=3"), ("tiny-fp16", "mp=2")] {
        let (fixture, model) = (Fixture::open(name), shared(name, strategy, None));
        check_logits(&fixture, &model, BEST);
        check_greedy(&fixture, &model, BEST);
        let prompts = fixture.prompts();
        let whole = model.logits(BEST, &prompts);
        for (threads, chunk) in [(2, 512), (3, 7), (5, 1)] {
            assert!(model.logits(How { threads, chunk, ..BEST }, &prompts) == whole, "{name}: {threads} threads");
        }
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

/// From its own weights, whatever types and layouts these have, an artifact becomes what `compile` would have made.
#[test]
fn resharded_artifacts_are_compiled_ones_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resharded.bloom");
    for (name, strategies) in [
        ("tiny", &["mp=1", "mp=4", "mp=2", "mp=2,vocab_emb_dp=true", "mp=2,sequence_parallel=true", "mp=1"][..]),
        ("tiny-nonpow2", &["mp=6", "mp=3", "mp=2"]),
        ("tiny-fp16", &["mp=1", "mp=2"]),
        ("tiny-untied", &["mp=2", "mp=4"]),
    ] {
        let compiled: Vec<Compiled> =
            strategies.iter().map(|strategy| shared(name, strategy, Some(vec![Target::Interpreter]))).collect();
        for (pair, strategy) in compiled.windows(2).zip(&strategies[1..]) {
            reshard(&pair[0].path, &path, &strategy.parse().unwrap(), &mut Quiet).unwrap();
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&pair[1].path).unwrap(), "{name}, {strategy}");
        }
    }
    // In its own place.
    std::fs::copy(&shared("tiny", "mp=1", Some(vec![Target::Interpreter])).path, &path).unwrap();
    reshard(&path, &path, &"mp=2".parse().unwrap(), &mut Quiet).unwrap();
    assert_eq!(Artifact::open(&path, Check::Full).unwrap().program().mesh.ranks(), 2);
}
