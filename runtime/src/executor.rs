//! Runs entry points of an artifact's program on memory it owns: natively or on the interpreter.

use crate::error::RunError;
use crate::launcher::best_class;
use crate::memory::{Buffers, Interpreted};
use crate::native::Native;
use crate::profile::{Detail, PageCount, Profile, Recorder, StageKind, check};
use crate::weights::{Pages, Store, Weights};
use bloomery_artifact::Artifact;
use bloomery_ir::program::{Place, Step, View};
use bloomery_ir::run_program::ProgramInterpreter;
use bloomery_ir::{Bindings, Program, SymbolBound};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// The name that asks for the interpreter where a class of processors could stand.
pub const INTERPRETER: &str = "interpreter";

/// How to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutorOptions {
    /// A class of processors, or [`INTERPRETER`]; by default the best class the artifact has code for, and the
    /// interpreter when it has none.
    pub class: Option<String>,
    /// How many threads; by default one per processor.
    pub threads: Option<usize>,
    /// On which pages weights are read. The interpreter reads the mapped file.
    pub weights: Pages,
    /// Symbols that have one value in this run, such as the number of pages in the cache.
    pub fixed: Vec<(String, u64)>,
}

/// A program with its memory.
pub struct Executor {
    artifact: Arc<Artifact>,
    weights: Store,
    /// By replica.
    buffers: Vec<Buffers>,
    /// The program's symbols, bounded as here.
    bounds: Vec<SymbolBound>,
    engine: Engine,
    class: String,
    /// Entries whose weights were compared with their hashes.
    ready: Vec<bool>,
    recorder: Option<Recorder>,
}

enum Engine {
    Interpreter,
    Native(Native),
}

impl Executor {
    /// Takes memory and maps code.
    ///
    /// # Errors
    /// A class that is not there or does not run here; no memory.
    pub fn new(artifact: Arc<Artifact>, options: &ExecutorOptions) -> Result<Executor, RunError> {
        if let (Some(plan), None) = (artifact.plan(), &options.class) {
            return Err(RunError::Device { chip: plan.chip.name() });
        }
        let program = artifact.program();
        let bounds = fixed_bounds(program, &options.fixed)?;
        let most: Bindings = bounds.iter().map(|b| (b.name.clone(), b.most)).collect();
        let buffers: Vec<Buffers> =
            (0..program.replicas).map(|_| Buffers::new(program, &most)).collect::<Result<_, _>>()?;
        let class = options.class.as_deref().or_else(|| best_class(&artifact));
        let class = class.or(artifact.classes().is_empty().then_some(INTERPRETER));
        // An artifact with code for other processors only: say which, instead of being slow without a word.
        let class = class.map_or_else(|| artifact.classes()[0].to_owned(), str::to_owned);
        let engine = if class == INTERPRETER {
            Engine::Interpreter
        } else {
            let threads = options.threads.unwrap_or_else(default_threads);
            let most: Vec<u32> = bounds.iter().map(|bound| bound.most as u32).collect();
            Engine::Native(Native::new(&artifact, &class, threads, &buffers[0], &most)?)
        };
        let ready = vec![false; program.entries.len()];
        let pages = if class == INTERPRETER { Pages::Mapped } else { options.weights };
        let weights = Store::new(&artifact, pages)?;
        Ok(Executor { artifact, weights, buffers, bounds, engine, class, ready, recorder: None })
    }

    /// The artifact.
    pub fn artifact(&self) -> &Arc<Artifact> {
        &self.artifact
    }

    /// What runs: a class of processors or [`INTERPRETER`].
    pub fn class(&self) -> &str {
        &self.class
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        match &self.engine {
            Engine::Interpreter => 1,
            Engine::Native(native) => native.threads(),
        }
    }

    /// Bytes of an input or output; outputs are the same on every rank, of the last stage if there are stages.
    pub fn io(&self, replica: usize, index: usize) -> &[u8] {
        self.buffers[replica].io(self.artifact.program().last_ranks().start, index).block.bytes()
    }

    /// The same, to be written, for all ranks of a replica.
    pub fn io_mut(&mut self, replica: usize, index: usize) -> &mut [u8] {
        self.buffers[replica].ios[index][0].block.bytes_mut()
    }

    /// Of each rank of a replica, bytes of a state from layer to layer, and all of them.
    pub fn states_mut(&mut self, replica: usize, index: usize) -> impl Iterator<Item = (u64, &mut [u8])> {
        let of_rank = self.buffers[replica].states.iter_mut().map(move |states| &mut states[index]);
        of_rank.map(|held| (held.stride, held.block.bytes_mut()))
    }

    /// The weights, on the pages they are read from now.
    pub fn weights(&self) -> &Arc<Weights> {
        self.weights.now()
    }

    /// Bytes of arena, states, inputs and outputs.
    pub fn memory_bytes(&self) -> u64 {
        self.buffers.iter().map(Buffers::bytes).sum()
    }

    /// Runs an entry on a replica's memory, with these values of the program's symbols, in their order.
    ///
    /// # Errors
    /// A size outside its bounds, damaged weights.
    ///
    /// # Panics
    /// When there is no such entry or replica, or not one value per symbol.
    pub fn run(&mut self, replica: usize, entry: usize, dims: &[u32]) -> Result<(), RunError> {
        let artifact = Arc::clone(&self.artifact);
        let program = artifact.program();
        self.check_sizes(program, entry, dims)?;
        self.check_weights(entry)?;
        let begin = self.recorder.as_ref().map_or(0, Recorder::now);
        let named = self.bounds.iter().zip(dims).map(|(bound, &value)| (bound.name.clone(), u64::from(value)));
        let bindings: Bindings = named.collect();
        let pages = match &mut self.engine {
            Engine::Native(native) => {
                let log = self.recorder.as_ref().and_then(Recorder::log);
                self.weights.before_call();
                native.run(self.weights.now().bytes(), entry, dims, bindings, &mut self.buffers[replica], log)
            }
            Engine::Interpreter => {
                let mut memory = Interpreted { artifact: &artifact, buffers: &mut self.buffers[replica] };
                ProgramInterpreter::new(program).run(&program.entries[entry], &bindings, &mut memory);
                PageCount::default()
            }
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.called(entry, dims, pages, begin);
        }
        Ok(())
    }

    /// Records from now on; a recording that runs is dropped.
    ///
    /// # Errors
    /// Times of kernels on the interpreter.
    pub fn record(&mut self, detail: Detail) -> Result<(), RunError> {
        check(detail, matches!(self.engine, Engine::Native(_)))?;
        self.recorder = Some(Recorder::new(detail, self.threads(), self.artifact.program().kernels.len()));
        Ok(())
    }

    /// Ends a recording and returns it, if one runs.
    pub fn recorded(&mut self) -> Option<Profile> {
        self.recorder.take().map(Recorder::finish)
    }

    /// How many calls the recording that runs holds.
    pub fn calls(&self) -> usize {
        self.recorder.as_ref().map_or(0, Recorder::calls)
    }

    /// The recording that runs.
    pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_mut()
    }

    fn check_sizes(&self, program: &Program, entry: usize, dims: &[u32]) -> Result<(), RunError> {
        assert_eq!(dims.len(), self.bounds.len(), "one value per symbol");
        let entry = &program.entries[entry];
        for (bound, &value) in self.bounds.iter().zip(dims) {
            let range = if bound.name == entry.rows { (entry.least, entry.most) } else { (bound.least, bound.most) };
            let (name, value, (least, most)) = (bound.name.clone(), u64::from(value), range);
            if value < least || value > most {
                return Err(RunError::Size { name, value, least, most });
            }
        }
        Ok(())
    }

    /// Before an entry's first run: its weights, if they were not checked at opening.
    fn check_weights(&mut self, entry: usize) -> Result<(), RunError> {
        if self.ready[entry] {
            return Ok(());
        }
        let mut pieces = BTreeSet::new();
        let program = self.artifact.program();
        used_weights(program, &program.entries[entry].steps, 0, 0..1, &mut |parameter, layer| {
            pieces.extend(self.artifact.unchecked(parameter, layer));
        });
        if !pieces.is_empty() {
            self.check_pieces(pieces.into_iter().collect())?;
        }
        self.ready[entry] = true;
        Ok(())
    }

    fn check_pieces(&mut self, pieces: Vec<usize>) -> Result<(), RunError> {
        let begin = self.recorder.as_ref().map_or(0, Recorder::now);
        match &mut self.engine {
            Engine::Native(native) => native.check_pieces(&self.artifact, pieces)?,
            Engine::Interpreter => pieces.into_iter().try_for_each(|piece| self.artifact.check_piece(piece))?,
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.stage(StageKind::Check, begin);
        }
        Ok(())
    }
}

/// Calls back with every parameter and layer that steps read; layers are counted from a stage's first.
fn used_weights(program: &Program, steps: &[Step], first: u64, layers: Range<u64>, used: &mut impl FnMut(usize, u64)) {
    let mut view = |view: &View| {
        let layers = if view.per_layer { first + layers.start..first + layers.end } else { 0..1 };
        if let Place::Parameter(i) = view.place {
            layers.for_each(|layer| used(i, layer));
        }
    };
    steps.iter().for_each(|step| step.reads().iter().for_each(&mut view));
    for step in steps {
        match step {
            Step::Loop { from, to, steps, .. } => used_weights(program, steps, first, *from..*to, used),
            Step::Stage { stages, steps } => {
                let firsts = program.stages[stages.start as usize..stages.end as usize].iter();
                firsts.for_each(|layers| used_weights(program, steps, layers.start, 0..1, used));
            }
            _ => {}
        }
    }
}

fn fixed_bounds(program: &Program, fixed: &[(String, u64)]) -> Result<Vec<SymbolBound>, RunError> {
    let mut bounds = program.symbols.clone();
    for (name, value) in fixed {
        let bound = bounds.iter_mut().find(|bound| bound.name == *name);
        let bound = bound.ok_or_else(|| RunError::Program(format!("has no symbol {name}")))?;
        let (least, most) = (bound.least, bound.most);
        if *value < least || *value > most {
            return Err(RunError::Size { name: name.clone(), value: *value, least, most });
        }
        *bound = SymbolBound::new(name, *value, *value);
    }
    Ok(bounds)
}

/// One per processor this process may use.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
