//! Compiled models against Hugging Face: every recorded model, as code for each class this machine has and on the
//! interpreter; and what must not change a bit: batches, chunks, threads, another compilation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use bloomery::Quiet;
use bloomery::compile::{CompileOptions, ModelSource, compile};
use bloomery::targets::Target;
use bloomery_artifact::{Artifact, Check};
use bloomery_codegen::cpu::CLASSES;
use bloomery_ir::{DType, Tensor};
use bloomery_models::config::WeightType;
use bloomery_runtime::{
    GenerationConfig, Session, SessionOptions, Windows, all_logits, generate, pages_needed, perplexity, runs_here,
};

use crate::fixture::{Fixture, assert_close, folder, ids, ids_of_all};

/// Models with recorded logits.
pub(crate) const MODELS: &[&str] = &[
    "tiny",
    "tiny-nonpow2",
    "tiny-fp16",
    "tiny-bf16",
    "tiny-safetensors-sharded",
    "tiny-untied",
    "tiny-postln",
    "tiny-eps",
    "tiny-long",
    "tiny-bin",
    "tiny-bin-lmhead",
    "tiny-bin-legacy",
    "tiny-sharded",
    "tiny-sharded-underscore",
];

/// Those that code is made of: the others differ from them by their files alone, which the interpreter's tests read as well.
const CODED: &[&str] = &[
    "tiny",
    "tiny-nonpow2",
    "tiny-fp16",
    "tiny-bf16",
    "tiny-untied",
    "tiny-postln",
    "tiny-eps",
    "tiny-long",
    "tiny-bin-legacy",
];

/// An artifact, and its folder where it has one of its own.
pub(crate) struct Compiled {
    pub(crate) artifact: Arc<Artifact>,
    pub(crate) path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

/// Compiles a fixture's model; `change` sets options.
pub(crate) fn compiled(name: &str, change: impl Fn(&mut CompileOptions)) -> Compiled {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bloom");
    Compiled { _folder: Some(folder), ..Compiled::write(path, name, change) }
}

/// A fixture's model with no option changed, compiled once for all tests.
pub(crate) fn standard(name: &str) -> Arc<Compiled> {
    shared(name, name, |_| {})
}

/// As [`compiled`], once for all tests that mean the same by `what`.
pub(crate) fn shared(what: &str, name: &str, change: impl Fn(&mut CompileOptions)) -> Arc<Compiled> {
    type Made = BTreeMap<String, Arc<OnceLock<Arc<Compiled>>>>;
    static MADE: Mutex<Made> = Mutex::new(Made::new());
    let place = Arc::clone(MADE.lock().unwrap().entry(what.to_owned()).or_default());
    // What is static is never dropped, so the file goes where the build's files are, and is replaced by the next run.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{what}.bloom"));
    Arc::clone(place.get_or_init(|| Arc::new(Compiled::write(path, name, change))))
}

/// How to run: class, threads, chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) class: Option<&'static str>,
    pub(crate) threads: usize,
    pub(crate) chunk: usize,
}

/// The best class here, one thread.
pub(crate) const BEST: How = How { class: None, threads: 1, chunk: 512 };
pub(crate) const INTERPRETER: How = How { class: Some("interpreter"), threads: 1, chunk: 512 };

impl Compiled {
    fn write(path: PathBuf, name: &str, change: impl Fn(&mut CompileOptions)) -> Compiled {
        let mut options = CompileOptions::new(ModelSource::Folder(folder(name).join("model")));
        options.dtype = Some(WeightType::F32);
        options.targets = best_here();
        change(&mut options);
        compile(&options, &path, &mut Quiet).unwrap();
        Compiled { artifact: Arc::new(Artifact::open(&path, Check::Full).unwrap()), path, _folder: None }
    }

    pub(crate) fn session(&self, how: How, lengths: impl IntoIterator<Item = usize>) -> Session {
        let options = SessionOptions {
            class: how.class.map(str::to_owned),
            threads: Some(how.threads),
            chunk: Some(how.chunk),
            pages: pages_needed(&self.artifact, lengths).unwrap(),
            ..SessionOptions::default()
        };
        Session::new(Arc::clone(&self.artifact), &options).unwrap()
    }

    /// `[sequence, vocabulary]` of each prompt.
    pub(crate) fn logits(&self, how: How, prompts: &[Vec<u32>]) -> Vec<Tensor> {
        let all = all_logits(&mut self.session(how, prompts.iter().map(Vec::len)), prompts).unwrap();
        let [_, longest, vocabulary] = all.shape;
        let of = |(i, prompt): (usize, &Vec<u32>)| {
            let rows = &all.data[i * longest * vocabulary..][..prompt.len() * vocabulary];
            Tensor::new(DType::F32, &[prompt.len(), vocabulary], rows.iter().map(|&x| f64::from(x)))
        };
        prompts.iter().enumerate().map(of).collect()
    }

    /// New ids of each prompt.
    pub(crate) fn greedy(&self, how: How, prompts: &[Vec<u32>], max_new_tokens: usize, eos: &[u32]) -> Vec<Vec<u32>> {
        let config = GenerationConfig { max_new_tokens, eos_token_id: eos.to_vec(), ..GenerationConfig::default() };
        let mut session = self.session(how, prompts.iter().map(|prompt| prompt.len() + max_new_tokens));
        let generated = generate(&mut session, prompts, &config, &mut |_: usize, _| {}).unwrap();
        generated.into_iter().map(|one| one.ids).collect()
    }
}

pub(crate) fn check_logits(fixture: &Fixture, model: &Compiled, how: How) {
    for (i, prompt) in fixture.prompts().iter().enumerate() {
        let (whole, last) = (fixture.recorded(&format!("logits.{i}")), fixture.recorded(&format!("logits.{i}.last16")));
        let Some(recorded) = whole.or(last) else { continue };
        let found = model.logits(how, std::slice::from_ref(prompt)).remove(0);
        let rows = prompt.len() - recorded.shape[0]..prompt.len();
        assert_close(&format!("{} {how:?}", fixture.name), &found.slice(0, rows), &recorded, 1e-4);
    }
}

/// Every class of processors there is code for and this machine can run.
fn classes_here() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|class| class.name()).filter(|class| runs_here(class))
}

/// Code for the best class that this machine can run: the others have the same bits, and compilers take their time.
fn best_here() -> Vec<Target> {
    let best = classes_here().last().unwrap_or_else(|| panic!("no class of {CLASSES:?} runs here"));
    vec![format!("cpu:{best}").parse().unwrap(), Target::Interpreter]
}

#[test]
fn logits_are_hugging_faces() {
    CODED.iter().for_each(|name| check_logits(&Fixture::open(name), &standard(name), BEST));
}

#[test]
fn every_class_has_the_same_bits() {
    for (name, dtype) in [("tiny-fp16", None), ("tiny-nonpow2", Some(WeightType::F32))] {
        let model = compiled(name, |options| {
            options.dtype = dtype;
            options.targets = classes_here().map(|class| format!("cpu:{class}").parse().unwrap()).collect();
        });
        let prompts = Fixture::open(name).prompts();
        let of = |class| model.logits(How { class: Some(class), threads: 2, ..BEST }, &prompts);
        let logits: Vec<_> = classes_here().map(of).collect();
        assert!(logits.windows(2).all(|pair| pair[0] == pair[1]), "{name}: {CLASSES:?}");
    }
}

#[test]
fn logits_are_hugging_faces_on_the_interpreter() {
    for name in MODELS.iter().filter(|name| **name != "tiny-long") {
        let model = compiled(name, |options| options.targets = vec![Target::Interpreter]);
        check_logits(&Fixture::open(name), &model, INTERPRETER);
    }
}

pub(crate) fn check_greedy(fixture: &Fixture, model: &Compiled, how: How) {
    for case in fixture.golden["greedy"].as_array().unwrap() {
        let prompt = fixture.prompts().swap_remove(case["prompt"].as_u64().unwrap() as usize);
        let recorded = ids(&case["ids"]);
        assert_eq!(model.greedy(how, &[prompt], recorded.len(), &[])[0], recorded, "{}, {how:?}", fixture.name);
    }
}

#[test]
fn greedy_ids_are_hugging_faces() {
    for name in CODED {
        let (fixture, model) = (Fixture::open(name), standard(name));
        check_greedy(&fixture, &model, BEST);
        if let Some(case) = fixture.golden.get("greedy_eos") {
            let eos = case["eos_token_id"].as_u64().unwrap() as u32;
            let found = model.greedy(BEST, &[ids(&case["prompt"])], 64, &[eos]);
            assert_eq!(found[0], ids(&case["ids"]), "{name}: until the end of sequence");
        }
    }
}

#[test]
fn a_batch_is_hugging_faces_and_bit_equal_to_its_rows_alone() {
    for name in ["tiny", "tiny-nonpow2"] {
        let (fixture, model) = (Fixture::open(name), standard(name));
        let prompts = fixture.unpadded("batch");
        let recorded = ids_of_all(&fixture.golden["batch"]["greedy"]);
        assert_eq!(model.greedy(BEST, &prompts, recorded[0].len(), &[]), recorded, "{name}");
        let together = model.logits(BEST, &prompts);
        for (prompt, row) in prompts.iter().zip(&together) {
            assert_eq!(model.logits(BEST, std::slice::from_ref(prompt))[0], *row, "{name}");
        }
    }
}

#[test]
fn threads_and_chunks_change_no_bit() {
    for (name, dtype) in [("tiny-long", None), ("tiny-fp16", None), ("tiny", Some(WeightType::Bf16))] {
        let model = compiled(name, |options| options.dtype = dtype);
        let prompts = Fixture::open(name).prompts();
        let whole = model.logits(BEST, &prompts);
        for (threads, chunk) in [(2, 512), (3, 512), (1, 1), (2, 7), (1, 64)] {
            let found = model.logits(How { threads, chunk, ..BEST }, &prompts);
            assert!(found == whole, "{name}: {threads} threads, chunks of {chunk}");
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let [one, two] = [(); 2].map(|()| std::fs::read(&compiled("tiny-fp16", |_| {}).path).unwrap());
    assert!(one == two, "two compilations differ");
}

#[test]
fn contexts_beyond_the_trained_length_work() {
    let model = compiled("tiny", |options| options.max_context = 8192);
    let prompt: Vec<u32> = (0..8000).map(|i| i * 7 % 509 + 3).collect();
    let whole = model.greedy(How { threads: 2, ..BEST }, std::slice::from_ref(&prompt), 8, &[]);
    assert_eq!(whole[0].len(), 8);
    assert_eq!(model.greedy(How { chunk: 100, ..BEST }, &[prompt], 8, &[]), whole);
}

#[test]
fn the_trained_model_writes_the_recorded_ids_and_texts() {
    let (fixture, model) = (Fixture::open("trained-web"), standard("trained-web"));
    let tokenizer =
        bloomery_models::tokenizer::Tokenizer::from_bytes(model.artifact.tokenizer().unwrap().to_vec()).unwrap();
    for case in fixture.golden["greedy"].as_array().unwrap() {
        let recorded = ids(&case["greedy_ids"]);
        let found = model.greedy(BEST, &[ids(&case["input_ids"])], recorded.len(), &[]).remove(0);
        assert_eq!(found, recorded, "{}", case["prompt"]);
        assert_eq!(tokenizer.decode(&found, true), case["text"].as_str().unwrap());
    }
}

#[test]
fn the_trained_model_has_the_recorded_log_probabilities() {
    let (fixture, model) = (Fixture::open("trained-web"), standard("trained-web"));
    let sequence = ids(&fixture.golden["heldout"]["first_sequence"]);
    let recorded: Vec<f64> =
        serde_json::from_value(fixture.golden["heldout"]["first_sequence_logprobs"].clone()).unwrap();
    let logits = model.logits(BEST, std::slice::from_ref(&sequence)).remove(0);
    for (i, recorded) in recorded.iter().enumerate() {
        let row = logits.layer(i).data;
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        let found = row[sequence[i + 1] as usize] - largest - sum.ln();
        assert!((found - recorded).abs() < 1e-4, "token {i}: {found} for {recorded}");
    }
}

/// Sequences of one length, one after another, are windows that share no token.
#[test]
fn the_trained_model_has_the_recorded_loss_on_text_it_has_not_seen() {
    let (fixture, model) = (Fixture::open("trained-web"), standard("trained-web"));
    let text = std::fs::read(folder("trained-web").join("heldout.json")).unwrap();
    let sequences: Vec<Vec<u32>> = serde_json::from_slice(&text).unwrap();
    let recorded = fixture.golden["heldout"]["loss"].as_f64().unwrap();
    let windows = Windows { window: 128, stride: 128 };
    let found = perplexity(&mut model.session(BEST, [128]), &sequences.concat(), windows, &mut |_| {}).unwrap();
    assert_eq!((found.windows, found.scored), (200, 200 * 127));
    assert!((found.mean() - recorded).abs() < 1e-5, "{found:?} for {recorded}");
    let recorded = fixture.golden["heldout"]["perplexity"].as_f64().unwrap();
    assert!((found.perplexity() - recorded).abs() < 1e-5 * recorded, "{found:?} for {recorded}");
}

/// f32 sums there differ from f64 here by less than the tolerance, as do logits.
#[test]
fn sliding_windows_give_the_recorded_losses() {
    let model = standard("trained-web");
    let read = |name: &str| std::fs::read(folder("trained-web").join(name)).unwrap();
    let recorded: serde_json::Value = serde_json::from_slice(&read("perplexity.json")).unwrap();
    let whole = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let sequences: Vec<Vec<u32>> = serde_json::from_slice(&read("heldout.json")).unwrap();
    let text = sequences[..whole(&recorded["sequences"])].concat();
    let measured = |how: How, windows: Windows| {
        perplexity(&mut model.session(how, [windows.window]), &text, windows, &mut |_| {}).unwrap()
    };
    for case in recorded["cases"].as_array().unwrap() {
        let windows = Windows { window: whole(&case["window"]), stride: whole(&case["stride"]) };
        let found = measured(BEST, windows);
        assert_eq!((found.windows, found.scored), (whole(&case["windows"]), whole(&case["scored"])), "{windows:?}");
        let recorded = case["mean_nll"].as_f64().unwrap();
        assert!((found.mean() - recorded).abs() < 1e-5, "{windows:?}: {found:?} for {recorded}");
    }
    let windows = Windows { window: 128, stride: 64 };
    for how in [How { threads: 2, ..BEST }, How { chunk: 7, ..BEST }] {
        assert_eq!(measured(how, windows), measured(BEST, windows), "{how:?}");
    }
}

/// The ids a damaged file gives, or the error; a crash would end the test.
fn outcome(path: &Path) -> Result<Vec<Vec<u32>>, String> {
    let artifact = Arc::new(Artifact::open(path, Check::Lazy).map_err(|error| error.to_string())?);
    let options = SessionOptions { threads: Some(1), pages: 4, ..SessionOptions::default() };
    let mut session = Session::new(artifact, &options).map_err(|error| error.to_string())?;
    let config = GenerationConfig { max_new_tokens: 4, ..GenerationConfig::default() };
    let generated = generate(&mut session, &[vec![5, 6, 7]], &config, &mut |_: usize, _| {});
    let generated = generated.map_err(|error| error.to_string())?;
    Ok(generated.into_iter().map(|one| one.ids).collect())
}

#[test]
fn damaged_artifacts_are_refused_or_harmless() {
    let model = compiled("tiny-fp16", |options| options.dtype = None);
    let whole = std::fs::read(&model.path).unwrap();
    let expected = outcome(&model.path).unwrap();
    let damaged = model.path.with_file_name("damaged.bloom");
    let check = |bytes: &[u8], what: &str| {
        std::fs::write(&damaged, bytes).unwrap();
        match outcome(&damaged) {
            Ok(ids) => assert_eq!(ids, expected, "{what}"),
            Err(message) => assert!(!message.is_empty(), "{what}"),
        }
    };
    // Every byte of the header, then places all through the file.
    let positions = (0..512).chain((512..whole.len()).step_by(whole.len() / 700 + 1));
    for position in positions {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        check(&bytes, &format!("bit {} of byte {position}", position % 8));
    }
    for length in (0..whole.len()).step_by(whole.len() / 100 + 1) {
        check(&whole[..length], &format!("the first {length} bytes"));
    }
    check(b"not an artifact at all", "a foreign file");
}
