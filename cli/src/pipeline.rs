//! Text in, text out: a model, its tokenizer and sessions behind one name.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use bloomery_runtime::GenerationConfig;

use crate::Error;
use crate::execution::on;
use crate::generation::Generation;
use crate::pretrained::{AutoModel, Model};
use crate::run::{NewToken, Sequence, Texts, answer, encode};
use crate::stop::StopStrings;

/// What pipelines can be asked for.
const TASKS: [&str; 2] = ["text-generation", "text_generation"];

/// A pipeline for a task, of a model's folder, name, or artifact; see [`AutoModel::from_pretrained`].
///
/// # Errors
/// A task that is none, and what [`AutoModel::from_pretrained`] refuses.
pub fn pipeline(task: &str, model: impl AsRef<Path>) -> Result<Pipeline, Error> {
    if !TASKS.contains(&task) {
        return Err(Error::Refused(format!(
            "there is no pipeline for {task:?}, only for {:?}: ask for that",
            TASKS[0]
        )));
    }
    Ok(Pipeline::new(AutoModel::from_pretrained(model)?))
}

/// Generates text. Calls are independent of each other: nothing is kept between them.
#[derive(Clone)]
pub struct Pipeline {
    model: Model,
}

impl Pipeline {
    /// A pipeline of a model.
    pub fn new(model: Model) -> Pipeline {
        Pipeline { model }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Answers prompts, run together: in their order, those of one prompt side by side. What `config` leaves at its default
    /// is as the model's makers say, if they say anything (`generation_config.json`).
    ///
    /// # Errors
    /// A model without tokenizer, prompts that do not fit, settings that mean nothing or contradict each other.
    pub fn generate<P: Into<String>>(
        &self,
        prompts: impl IntoIterator<Item = P>,
        config: &GenerationConfig,
    ) -> Result<Vec<Sequence>, Error> {
        self.generate_with(prompts, &Generation::from(config))
    }

    /// As [`Pipeline::generate`], with what ids are not enough for: stop strings, a template.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn generate_with<P: Into<String>>(
        &self,
        prompts: impl IntoIterator<Item = P>,
        generation: &Generation,
    ) -> Result<Vec<Sequence>, Error> {
        let prompts: Vec<String> = prompts.into_iter().map(Into::into).collect();
        self.answers(&prompts, generation, &mut |_| true)
    }

    /// Answers a prompt piece by piece, as its tokens come, in whole characters. Dropping the stream ends the work.
    ///
    /// # Errors
    /// Settings with more than one answer. What else can fail is the stream's last item.
    pub fn stream(&self, prompt: impl Into<String>, config: &GenerationConfig) -> Result<Stream, Error> {
        self.stream_with(prompt, &Generation::from(config))
    }

    /// As [`Pipeline::stream`], with stop strings or a template.
    ///
    /// ```
    /// use bloomery::{AutoModel, GenerationConfig, Pipeline, generation::Generation, template::Template};
    /// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/hf/trained-web/model");
    /// # let cache = tempfile::tempdir().unwrap();
    /// # let options = bloomery::PretrainedOptions { cache: Some(cache.path().into()), targets: vec![bloomery::targets::Target::Interpreter], ..Default::default() };
    /// let bloom = Pipeline::new(AutoModel::from_pretrained_with(folder, &options, &mut bloomery::Quiet)?);
    /// let config = GenerationConfig { max_new_tokens: 8, ..Default::default() };
    /// let generation = Generation { template: Template::Belle, stop: vec![".".to_owned()], ..Generation::from(&config) };
    /// for piece in bloom.stream_with("What color is the sky?", &generation)? {
    ///     print!("{}", piece?);
    /// }
    /// # Ok::<(), bloomery::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Pipeline::stream`].
    pub fn stream_with(&self, prompt: impl Into<String>, generation: &Generation) -> Result<Stream, Error> {
        let config = generation.config(self.model.artifact(), self.model.tokenizer()?)?;
        let (beams, returned) = (config.num_beams, config.num_return_sequences);
        if beams > 1 || returned > 1 {
            return Err(Error::Refused(format!(
                "a stream is of one answer whose tokens are certain, not of {beams} beams and {returned} sequences: use \
                 generate"
            )));
        }
        let (pipeline, prompt, generation) = (self.clone(), prompt.into(), generation.clone());
        let (send, pieces) = mpsc::channel();
        let worker = thread::spawn(move || {
            let mut hear = |text: &str| text.is_empty() || send.send(Ok(text.to_owned())).is_ok();
            if let Err(error) = pipeline.answers(&[prompt], &generation, &mut hear) {
                // Whoever dropped the stream wants to hear nothing, of errors neither.
                let _ = send.send(Err(error));
            }
        });
        Ok(Stream { pieces: Some(pieces), worker: Some(worker) })
    }

    fn answers(
        &self,
        prompts: &[String],
        generation: &Generation,
        hear: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<Sequence>, Error> {
        let artifact = self.model.artifact();
        let tokenizer = self.model.tokenizer()?.ok_or_else(|| {
            Error::Refused(format!(
                "{} holds no tokenizer, so it takes no text: give ids to a session of it, or compile from a folder with \
                 tokenizer.json",
                artifact.path().display()
            ))
        })?;
        let config = generation.config(artifact, Some(tokenizer))?;
        let prompts = encode(prompts, &generation.template, tokenizer)?;
        let mut session = self.model.session(config.lengths(&prompts))?;
        let texts = Texts { tokenizer: Some(tokenizer), stops: StopStrings(&generation.stop) };
        let mut hear = |token: NewToken<'_>| hear(token.text);
        let answered = on(artifact, || answer(&mut session, &prompts, &config, texts, &mut hear))?;
        Ok(answered.sequences)
    }
}

/// The pieces of an answer. Another thread makes them, and waits for nobody.
pub struct Stream {
    pieces: Option<Receiver<Result<String, Error>>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Stream {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.pieces.as_ref()?.recv().ok();
        if piece.is_none() {
            if let Some(Err(panic)) = self.end() {
                std::panic::resume_unwind(panic);
            }
        }
        piece
    }
}

impl Stream {
    /// Lets go of the worker: it hears that nobody listens when it has its next piece, and its session ends with it.
    fn end(&mut self) -> Option<thread::Result<()>> {
        self.pieces = None;
        self.worker.take().map(JoinHandle::join)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}
