//! The `bloomery` binary: parses arguments (`args`), calls the library, prints (`print`), talks (`talk`), exits.
//!
//! Exit codes: 0; 1 when something is refused, with one message on stderr; 2 for a wrong command line (clap's); 130 after
//! Ctrl-C, 143 after SIGTERM.

mod args;
mod files;
mod interrupt;
mod manual;
mod print;
mod talk;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::{
    Bench, CheckpointCommand, Cli, Command, Compile, ConfigCommand, Convert, Eval, Inspect, Ir, Logits, Reshard,
    Retarget, Run, Show, StrategyCommand, Tokenize, Verify,
};
use bloomery::bench::BenchOptions;
use bloomery::eval::EvalOptions;
use bloomery::logits::LogitsOptions;
use bloomery::pretrained::{PretrainedOptions, artifact};
use bloomery::run::RunOptions;
use bloomery::strategy::files as strategy_files;
use bloomery::terminal::{self, Terminal};
use bloomery::{
    Error, Execution, bench, checkpoint, compile, config, convert, demo, eval, inspect, ir_file, limits, logits,
    reshard, retarget, run, strategy, tokenize, verify,
};
use bloomery_formats::map::cut;
use print::Silent;

fn main() -> ExitCode {
    cut::survive();
    interrupt::outlive_file_limit();
    match execute(Cli::read().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            let interrupted = matches!(failure, Failure::Refused(Error::Interrupted));
            interrupt::exit().filter(|_| interrupted).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// Why the program ends otherwise than with 0.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    fn print(&self) {
        let way_out = if let Failure::Refused(error) = self { error.way_out() } else { None };
        print::error(&self.to_string(), way_out);
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Compile(args) => compile(&args),
        Command::Retarget(args) => retarget(&args),
        Command::Reshard(args) => reshard(&args),
        Command::Tokenize(args) => tokenize(&args),
        Command::Ir(args) => ir(&args),
        Command::Run(args) => run(&args),
        Command::Chat(args) => talk::talk(&args),
        Command::Logits(args) => logits(&args),
        Command::Eval(args) => eval(&args),
        Command::Inspect(args) => inspect(&args),
        Command::Convert(args) => convert(&args),
        Command::Checkpoint(args) => checkpoint(&args.what),
        Command::Config(args) => match args.command {
            ConfigCommand::Show(args) => show(&args),
        },
        Command::Strategy(args) => strategy(&args.what),
        Command::Data(args) => files::data(&args.what),
        Command::Ranktable(args) => files::rank_table(&args.what),
        Command::Verify(args) => verify(&args),
        Command::Bench(args) => bench(&args),
        Command::Demo => demo(),
        Command::Completions { shell } => Ok(print::out(&manual::completions(shell))?),
        Command::Man { folder } => man(&folder),
    }
}

/// Progress that ends with a signal.
fn shown() -> Terminal {
    Terminal::new(interrupt::happened)
}

/// The artifact that a command runs: a file, or what is kept of a model's folder or name, compiled on first use.
fn kept(model: &Path, execution: &Execution) -> Result<PathBuf, Failure> {
    if model.is_file() {
        return Ok(model.to_path_buf());
    }
    let options = PretrainedOptions { execution: execution.clone(), ..PretrainedOptions::default() };
    Ok(interrupt::asking(|| artifact(model, &options, &mut shown()))?)
}

fn compile(args: &Compile) -> Result<(), Failure> {
    let options = args.options()?;
    interrupt::ask_first();
    let files = args.save_strategy.as_ref().map(|folder| compile::strategy_files(&options, folder, &mut shown()));
    let files = files.transpose()?;
    let written = compiled(args, &options)?;
    // Nobody finds files of a strategy that cannot be compiled.
    if let (Some(files), Some(folder)) = (files, &args.save_strategy) {
        let saved = files.write(&mut shown())?;
        let text = print::saved_strategy(folder, &saved);
        if args.json { print::notice(&text) } else { print::out(&text)? }
    }
    Ok(print::out(&written)?)
}

/// Compiles, plans or emits, and returns what there is to print of it.
fn compiled(args: &Compile, options: &compile::CompileOptions) -> Result<String, Failure> {
    if args.plan_only {
        let plan = compile::plan(options, &mut shown())?;
        return Ok(if args.json { print::json_text(&plan) } else { print::plan(&plan) });
    }
    if let Some((what, last)) = args.emit() {
        let text = compile::emit(options, what, last, &mut Silent)?;
        let Some(path) = args.output() else { return Ok(text) };
        bloomery::write_text(path, &text, &Silent)?;
        return Ok(String::new());
    }
    let Some(output) = args.output() else { return Ok(String::new()) };
    let compiled = compile::compile(options, output, &mut shown())?;
    Ok(print::written(output, compiled.bytes, &compiled.classes))
}

fn retarget(args: &Retarget) -> Result<(), Failure> {
    interrupt::ask_first();
    let retargeted = retarget::retarget(args.input(), args.output(), &args.target, &mut shown())?;
    Ok(print::out(&print::written(args.output(), retargeted.bytes, &retargeted.classes))?)
}

fn reshard(args: &Reshard) -> Result<(), Failure> {
    interrupt::ask_first();
    let resharded = reshard::reshard(&args.artifact, args.output(), &args.strategy, &mut shown())?;
    Ok(print::out(&print::written(args.output(), resharded.bytes, &resharded.classes))?)
}

fn tokenize(args: &Tokenize) -> Result<(), Failure> {
    let tokens = tokenize::tokenize(&args.options())?;
    if args.json {
        return Ok(print::json(&tokens)?);
    }
    let mut text = String::new();
    for (id, piece) in tokens.ids.iter().zip(&tokens.pieces) {
        let _ = writeln!(text, "{id}\t{piece}");
    }
    Ok(print::out(&text)?)
}

fn ir(args: &Ir) -> Result<(), Failure> {
    let options = args.options();
    let text = ir_file::ir(&options, &mut shown())?;
    let shown = if options.check.is_some() { "as expected\n" } else { &text };
    Ok(print::out(shown)?)
}

fn run(args: &Run) -> Result<(), Failure> {
    let options = args.options();
    let options = RunOptions { artifact: kept(&options.artifact, &options.execution)?, ..options };
    let mut streamed = false;
    let completed = run::run(&options, &mut |token| {
        if args.stream {
            streamed = true;
            print::token(&token, args.json);
        }
    })?;
    completed.notes.iter().for_each(|note| terminal::note(note));
    if let (Some(path), Some(trace)) = (&options.record.trace, &completed.trace) {
        // Before this there is no file, and signals end the program as they end any.
        interrupt::ask_first();
        bloomery::write_text(path, trace, &Silent)?;
    }
    // A search of beams, which the model's makers may ask for, has no tokens before its end.
    match (args.json, streamed) {
        (true, _) => print::json(&completed)?,
        (false, true) => print::out(&print::after_stream(&completed.sequences))?,
        (false, false) => print::out(&print::sequences(&completed.sequences))?,
    }
    if let Some(profile) = completed.profile.filter(|_| !args.json) {
        print::notice(&print::profile(&profile));
    }
    Ok(())
}

fn logits(args: &Logits) -> Result<(), Failure> {
    let options = args.options();
    let options = LogitsOptions { artifact: kept(&options.artifact, &options.execution)?, ..options };
    let logits = logits::logits(&options)?;
    // Before this there is no file, and signals end the program as they end any.
    interrupt::ask_first();
    logits::write(&logits, &options.output, &Silent)?;
    Ok(print::out(&format!("{}: logits f32{:?}\n", options.output.display(), logits.shape))?)
}

fn eval(args: &Eval) -> Result<(), Failure> {
    let options = args.options();
    let options = EvalOptions { artifact: kept(&options.artifact, &options.execution)?, ..options };
    let evaluated = eval::eval(&options, &mut shown())?;
    if args.json { Ok(print::json(&evaluated)?) } else { Ok(print::out(&print::evaluated(&evaluated))?) }
}

fn inspect(args: &Inspect) -> Result<(), Failure> {
    let inspection = inspect::inspect_with(&args.file, args.key.as_ref(), args.shared.src_strategy.as_deref())?;
    if args.json { Ok(print::json(&inspection)?) } else { Ok(print::out(&print::inspection(&inspection))?) }
}

fn convert(args: &Convert) -> Result<(), Failure> {
    interrupt::ask_first();
    let converted = convert::convert(&args.options()?, &mut shown())?;
    if args.json { Ok(print::json(&converted)?) } else { Ok(print::out(&print::converted(&converted))?) }
}

fn checkpoint(what: &CheckpointCommand) -> Result<(), Failure> {
    match what {
        CheckpointCommand::Show { file, key, shared, json } => {
            let shown = checkpoint::show(file, key.as_ref(), shared.src_strategy.as_deref(), &mut shown())?;
            if *json { Ok(print::json(&shown)?) } else { Ok(print::out(&print::checkpoint(&shown))?) }
        }
        CheckpointCommand::Diff { a, b, key, json } => {
            let differences = checkpoint::diff(a, b, key.as_ref(), &mut shown())?;
            if *json { Ok(print::json(&differences)?) } else { Ok(print::out(&print::differences(&differences))?) }
        }
        CheckpointCommand::Clean(args) => {
            interrupt::ask_first();
            let options = args.options();
            let cleaned = checkpoint::clean(&options, &mut shown())?;
            if args.json {
                Ok(print::json(&cleaned)?)
            } else {
                Ok(print::out(&print::cleaned(&options.target, &cleaned))?)
            }
        }
        CheckpointCommand::Transform(args) => {
            interrupt::ask_first();
            let transformed = checkpoint::transform(&args.options(), &mut shown())?;
            if args.json { Ok(print::json(&transformed)?) } else { Ok(print::out(&print::transformed(&transformed))?) }
        }
        CheckpointCommand::Needs(args) => {
            let of = &args.strategies;
            let (source, target) = (of.src_strategy.as_deref(), of.dst_strategy.as_deref());
            let needs = checkpoint::needs(source, target, of.rank, &mut shown())?;
            if args.json { Ok(print::json(&needs)?) } else { Ok(print::out(&print::needs(&needs))?) }
        }
        CheckpointCommand::Combine(args) => {
            interrupt::ask_first();
            let options = args.options();
            let combined = checkpoint::combine(&options, &mut shown())?;
            if args.json {
                Ok(print::json(&combined)?)
            } else {
                Ok(print::out(&print::combined(&options.target, &combined))?)
            }
        }
    }
}

fn show(args: &Show) -> Result<(), Failure> {
    let shown = config::show(&args.options())?;
    if args.json { Ok(print::json(&shown)?) } else { Ok(print::out(&print::config(&shown))?) }
}

fn strategy(what: &StrategyCommand) -> Result<(), Failure> {
    match what {
        StrategyCommand::Show { file, json } if strategy_files::is_strategy(file) => {
            let found = strategy_files::show(file)?;
            if *json { Ok(print::json(&found)?) } else { Ok(print::out(&print::strategy(&found))?) }
        }
        StrategyCommand::Draw { file, output, force, json } => {
            let is_artifact = !strategy_files::is_strategy(file);
            let shares = if is_artifact { strategy::strategy(file)? } else { strategy_files::shares(file)? };
            if let Some(path) = output {
                strategy::draw::write(&shares, path, *force, &Silent)?;
            }
            match output {
                _ if *json => Ok(print::json(&strategy::draw::table(&shares, output.as_deref()))?),
                Some(path) => {
                    // Of an artifact, `strategy show` is the table.
                    let table = if is_artifact { String::new() } else { print::holders(&strategy_files::show(file)?) };
                    Ok(print::out(&(print::drawn(path, &shares) + &table))?)
                }
                None => Ok(print::out(&strategy::draw::draw(&shares))?),
            }
        }
        StrategyCommand::Check { file, json } => {
            let checked = strategy_files::check(file)?;
            if *json { Ok(print::json(&checked)?) } else { Ok(print::out(&print::checked(file, &checked))?) }
        }
        StrategyCommand::Diff { a, b, json } => {
            let found = strategy_files::diff(a, b)?;
            if *json { Ok(print::json(&found)?) } else { Ok(print::out(&print::strategy_differences(&found))?) }
        }
        StrategyCommand::Merge { folder, output, force, json } => {
            let merged = strategy_files::merge(folder, output, *force)?;
            if *json { Ok(print::json(&merged)?) } else { Ok(print::out(&print::checked(output, &merged))?) }
        }
        StrategyCommand::Show { file, json } => {
            let shares = strategy::strategy(file)?;
            if *json { Ok(print::json(&shares)?) } else { Ok(print::out(&print::shares(&shares))?) }
        }
    }
}

fn verify(args: &Verify) -> Result<(), Failure> {
    let verified = verify::verify(&args.file)?;
    let (path, weights) = (args.file.display(), print::size(verified.weights_bytes));
    let proof = verified.certificate.map_or(String::new(), |proof| {
        format!(", {} ranks differ from one by {:.1e} in {} numbers", proof.ranks, proof.difference, proof.compared)
    });
    Ok(print::out(&format!("{path}: sound: {} sections, {weights} of weights{proof}\n", verified.sections))?)
}

fn bench(args: &Bench) -> Result<(), Failure> {
    if let Some(options) = args.limits() {
        let limits = limits::limits(&options, &mut shown())?;
        return if args.json { Ok(print::json(&limits)?) } else { Ok(print::out(&print::limits(&limits))?) };
    }
    let options = args.options();
    let options = BenchOptions { artifact: kept(&options.artifact, &options.execution)?, ..options };
    let benched = bench::bench(&options, &mut shown())?;
    if args.json { Ok(print::json(&benched.to_json())?) } else { Ok(print::out(&print::benched(&benched))?) }
}

fn demo() -> Result<(), Failure> {
    interrupt::ask_first();
    let mut failed = None;
    demo::demo(&mut shown(), &mut |text| failed = failed.take().or(print::out(text).err()))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn man(folder: &Path) -> Result<(), Failure> {
    interrupt::ask_first();
    let pages = manual::write_pages(folder)?;
    Ok(print::out(&format!("{}: {}\n", folder.display(), pages.join(", ")))?)
}
