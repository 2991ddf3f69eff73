//! The library in the shape people know: models compiled on first use and kept, pipelines, streams.

use std::fs;
use std::path::{Path, PathBuf};

use bloomery::compile::Compute;
use bloomery::execution::Execution;
use bloomery::generation::Generation;
use bloomery::targets::Target;
use bloomery::{AutoModel, AutoTokenizer, Error, GenerationConfig, Model, Pipeline, PretrainedOptions, Progress};

use crate::compiled::standard;
use crate::fixture::{Fixture, folder, ids};

/// Hears which stages ran and what was noted.
#[derive(Default)]
struct Heard {
    stages: Vec<String>,
    notes: Vec<String>,
}

impl Progress for Heard {
    fn begin(&mut self, stage: &str, _: u64) {
        self.stages.push(stage.to_owned());
    }
    fn advance(&mut self, _: u64) {}
    fn end(&mut self, _: &str) {}
    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

/// The model, and what was heard while it was found. No code is made for it, which takes longer than all the rest.
fn pretrained(model: &Path, cache: &Path, change: impl Fn(&mut PretrainedOptions)) -> (Result<Model, Error>, Heard) {
    let targets = vec![Target::Interpreter];
    let mut options = PretrainedOptions { cache: Some(cache.to_path_buf()), targets, ..Default::default() };
    change(&mut options);
    let mut heard = Heard::default();
    (AutoModel::from_pretrained_with(model, &options, &mut heard), heard)
}

fn kept(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn pipeline() -> Pipeline {
    Pipeline::new(Model::open(&standard("trained-web").path, Execution::default()).unwrap())
}

#[test]
fn a_model_is_compiled_once_and_again_when_it_or_the_options_change() {
    let (cache, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for entry in fs::read_dir(folder("tiny").join("model")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let compiles = |change: &dyn Fn(&mut PretrainedOptions)| {
        let (model, heard) = pretrained(copy.path(), cache.path(), change);
        model.unwrap();
        let compiled = heard.stages.iter().any(|stage| stage == "pack the weights");
        assert_eq!(
            compiled,
            heard.notes.iter().any(|note| note.contains("is compiled on first use")),
            "{:?}",
            heard.notes
        );
        compiled
    };
    assert!(compiles(&|_| {}), "the first use");
    assert!(!compiles(&|_| {}), "the second use");
    assert!(compiles(&|options| options.max_context = 64), "another option");
    let config = copy.path().join("config.json");
    fs::write(&config, fs::read_to_string(&config).unwrap() + "\n").unwrap();
    assert!(compiles(&|_| {}), "a changed file");
    // An artifact that is damaged is made again.
    let newest = kept(cache.path());
    assert_eq!(newest.len(), 3);
    newest.iter().for_each(|file| fs::write(file, b"BLOOMERY").unwrap());
    assert!(compiles(&|_| {}), "a damaged artifact");
    assert!(!compiles(&|_| {}), "the mended one");
}

#[test]
fn artifacts_and_folders_give_the_same_tokenizer() {
    let of_artifact = AutoTokenizer::from_pretrained(&standard("trained-web").path).unwrap();
    let of_folder = AutoTokenizer::from_pretrained(folder("trained-web").join("model")).unwrap();
    let text = "In the beginning, God created the heavens";
    assert_eq!(of_artifact.encode(text).unwrap(), of_folder.encode(text).unwrap());
}

#[test]
fn pipelines_write_the_recorded_ids() {
    let (fixture, bloom) = (Fixture::open("trained-web"), pipeline());
    for case in fixture.golden["greedy"].as_array().unwrap() {
        // The recorded run began with the token that begins texts.
        let prompt = format!("<s>{}", case["prompt"].as_str().unwrap());
        let recorded = ids(&case["greedy_ids"]);
        let config = GenerationConfig { max_new_tokens: recorded.len(), ..Default::default() };
        let answers = bloom.generate([prompt.as_str()], &config).unwrap();
        assert_eq!(answers[0].prompt_ids, ids(&case["input_ids"]), "{prompt:?}");
        assert_eq!(answers[0].ids, recorded, "{prompt:?}");
        let streamed: String = bloom.stream(prompt.as_str(), &config).unwrap().map(Result::unwrap).collect();
        assert_eq!(Some(streamed), answers[0].text, "{prompt:?}");
    }
}

#[test]
fn stop_strings_end_streams_too() {
    let bloom = pipeline();
    let config = GenerationConfig { max_new_tokens: 24, ..Default::default() };
    let whole = bloom.generate(["And God said,"], &config).unwrap().remove(0).text.unwrap();
    let stop = whole.chars().skip(8).take(3).collect::<String>();
    let generation = Generation { stop: vec![stop.clone()], ..Generation::from(&config) };
    let streamed: String = bloom.stream_with("And God said,", &generation).unwrap().map(Result::unwrap).collect();
    assert_eq!(streamed, whole[..whole.find(&stop).unwrap()]);
}

#[test]
fn threads_share_a_model() {
    let (bloom, config) = (pipeline(), GenerationConfig { max_new_tokens: 12, ..Default::default() });
    let prompts = ["And he said", "The king of", "In those days"];
    let alone = prompts.map(|prompt| bloom.generate([prompt], &config).unwrap().remove(0).ids);
    let together = std::thread::scope(|scope| {
        let ask = |prompt| bloom.generate([prompt], &config).unwrap().remove(0).ids;
        let running = prompts.map(|prompt| scope.spawn(move || ask(prompt)));
        running.map(|one| one.join().unwrap())
    });
    assert_eq!(together, alone);
}

#[test]
fn a_dropped_stream_ends_its_work() {
    let config = GenerationConfig { max_new_tokens: 1000, eos_token_id: vec![4095], ..Default::default() };
    let mut stream = pipeline().stream("And God said,", &config).unwrap();
    assert!(stream.next().is_some_and(|piece| piece.is_ok()));
    drop(stream); // waits for the worker: a test that hangs here has found that it goes on
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |result: Result<(), Error>, parts: &[&str]| {
        let message = result.unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(message.contains(part), "{message}"));
    };
    refused(bloomery::pipeline("translation", "x").map(drop), &["\"translation\"", "\"text-generation\""]);
    let config = GenerationConfig { num_beams: 3, ..Default::default() };
    refused(pipeline().stream("a", &config).map(drop), &["3 beams", "generate"]);
    let cache = tempfile::tempdir().unwrap();
    let model = folder("tiny").join("model");
    let (model, _) = pretrained(&model, cache.path(), |options| options.compute = Compute::Bf16);
    refused(model.map(drop), &["--compute bf16", "is of f32"]);
    assert!(kept(cache.path()).is_empty(), "nothing half-written is left");
    // A model without tokenizer takes no text.
    let mute = Pipeline::new(Model::open(&standard("tiny").path, Execution::default()).unwrap());
    refused(mute.generate(["a"], &GenerationConfig::default()).map(drop), &["holds no tokenizer"]);
}
