//! Mistakes in programs: each is made wherever it can be, and the certificate of programs catches all of them.
//!
//! A mistake that the check of artifacts refuses is caught too: nobody gets to run it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bloomery_artifact::check::check_program;
use bloomery_codegen::cpu::Cpu;
use bloomery_ir::program::{Collective, Launch, Place, Step, View};
use bloomery_ir::{Module, Program, Tensor};
use bloomery_models::bloom::Model;
use bloomery_passes::certificate::{Uncertified, certify_program};
use bloomery_passes::pipeline::{self, Stage};
use bloomery_passes::{Context, Stages, Strategy};

use crate::sharded::{divided, inputs, megatron, megatron_in_stages, model, sequence_parallel, strategy};

/// A model's program, and the graphs it was made of.
struct Made {
    model: Model,
    divided: Module,
    program: Program,
    inputs: Vec<(&'static str, Vec<Tensor>)>,
}

impl Made {
    fn of(fixture: &str, strategy: &Strategy) -> Made {
        let model = model(fixture);
        let cx = Context { target: &Cpu, entries: &model.interfaces, strategy: Some(strategy), inference: None };
        let Ok(Stage::Program(program)) = pipeline::run(model.module.clone(), &cx, None, &mut |_, _| {}) else {
            panic!("all passes make a program")
        };
        let multiple = if strategy.axes.contains_key("tokens") { strategy.mesh.ranks() } else { 1 };
        let inputs = |name| (name, inputs(model.module.graph(name).unwrap(), multiple, 7));
        let inputs = ["body", "head"].map(inputs).into();
        Made { divided: divided(&model, strategy).unwrap(), program: *program, inputs, model }
    }

    fn certified(&self, program: &Program) -> Result<f64, Uncertified> {
        certify_program(&self.model.module, &self.divided, program, &self.model.interfaces, &self.inputs)
    }

    /// Whether somebody notices. What does not fit at all ends the interpreter, which says so.
    fn catches(&self, mutant: &Program) -> bool {
        let certified = || self.certified(mutant).is_err();
        check_program(mutant).is_err() || catch_unwind(AssertUnwindSafe(certified)).unwrap_or(true)
    }
}

/// What is done to a list of steps at one place of it; whether it could be.
type StepMistake = fn(&mut Vec<Step>, usize) -> bool;

const STEPS: &[(&str, StepMistake)] = &[
    ("a launch left out", |steps, i| left_out(steps, i, |step| matches!(step, Step::Launch(_)))),
    ("a collective left out", |steps, i| left_out(steps, i, |step| matches!(step, Step::Collective { .. }))),
    ("a send left out", |steps, i| left_out(steps, i, |step| matches!(step, Step::Send { .. }))),
    ("a copy left out", |steps, i| left_out(steps, i, |step| matches!(step, Step::Copy { .. }))),
    ("a loop left out", |steps, i| left_out(steps, i, |step| matches!(step, Step::Loop { .. }))),
    ("a stage left out", |steps, i| left_out(steps, i, |step| matches!(step, Step::Stage { .. }))),
    ("a layer left out", |steps, i| match &mut steps[i] {
        Step::Loop { to, .. } => {
            *to -= 1;
            true
        }
        _ => false,
    }),
    ("layers from the last to the first", |steps, i| match &mut steps[i] {
        Step::Loop { from, to, reverse, .. } if *to - *from > 1 => {
            *reverse = true;
            true
        }
        _ => false,
    }),
    ("a collective of other ranks", |steps, i| match &mut steps[i] {
        Step::Collective { over, .. } if ["a", "b"].contains(&over.as_str()) => {
            *over = if over == "a" { "b" } else { "a" }.to_owned();
            true
        }
        _ => false,
    }),
    ("slices joined along another dimension", |steps, i| match &mut steps[i] {
        Step::Collective { what: Collective::Join { dim } | Collective::Scatter { dim }, .. } => {
            *dim = 1 - *dim;
            true
        }
        _ => false,
    }),
    ("a sum that every rank gets the first slice of", |steps, i| match &mut steps[i] {
        Step::Collective { what: what @ Collective::Scatter { .. }, .. } => {
            *what = Collective::Sum;
            true
        }
        _ => false,
    }),
    ("a sum of what was there before", |steps, i| match &mut steps[i] {
        Step::Collective { from: View { place: Place::Arena { offset, .. }, .. }, .. } => {
            *offset += 64;
            true
        }
        _ => false,
    }),
    ("two weights of a launch exchanged", |steps, i| exchanged(&mut steps[i])),
    ("the first of all layers instead of each", |steps, i| match &mut steps[i] {
        Step::Launch(Launch { inputs, .. }) => inputs.iter_mut().any(|view| {
            let is_weight = view.per_layer && matches!(view.place, Place::Parameter(_));
            if is_weight {
                view.per_layer = false;
            }
            is_weight
        }),
        _ => false,
    }),
];

fn left_out(steps: &mut Vec<Step>, i: usize, is: fn(&Step) -> bool) -> bool {
    let found = is(&steps[i]);
    if found {
        steps.remove(i);
    }
    found
}

/// Exchanges two weights of one type.
fn exchanged(step: &mut Step) -> bool {
    let Step::Launch(Launch { inputs, .. }) = step else { return false };
    let pairs = (0..inputs.len()).flat_map(|i| (i + 1..inputs.len()).map(move |j| (i, j)));
    let alike = |(i, j): &(usize, usize)| {
        let [a, b] = [&inputs[*i], &inputs[*j]];
        let weights = [a, b].iter().all(|view| matches!(view.place, Place::Parameter(_)));
        weights && a.ty.unnamed() == b.ty.unnamed() && a.per_layer == b.per_layer && a.place != b.place
    };
    let Some((i, j)) = pairs.into_iter().find(alike) else { return false };
    inputs.swap(i, j);
    true
}

/// What is done to a program as a whole.
type ProgramMistake = fn(&mut Program) -> bool;

const PROGRAMS: &[(&str, ProgramMistake)] = &[
    ("stages that begin a layer early", |program| {
        let mut later = program.stages.iter_mut().skip(1).peekable();
        let there = later.peek().is_some();
        later.for_each(|layers| *layers = layers.start - 1..layers.end - 1);
        there
    }),
    ("stages in another order", |program| {
        let of_stages = |entry: &&mut bloomery_ir::program::Entry| entry.steps.len() > 1;
        let mut entries: Vec<_> = program.entries.iter_mut().filter(of_stages).collect();
        entries.iter_mut().for_each(|entry| entry.steps.reverse());
        !entries.is_empty() && !program.stages.is_empty()
    }),
    ("everything at one place of the arena", |program| {
        program.entries.iter_mut().for_each(|entry| at_one_place(&mut entry.steps));
        true
    }),
    ("pieces of weights that ranks have in another order", |program| {
        let cut = program.parameters.iter_mut().filter(|parameter| parameter.cuts.len() == 1);
        cut.for_each(|parameter| parameter.cuts[0].1 = if parameter.cuts[0].1 == "a" { "b" } else { "a" }.to_owned());
        program.mesh.size("a").is_some()
    }),
    ("a place along another axis", |program| {
        program.mesh.axes.reverse();
        program.mesh.size("a").is_some()
    }),
];

fn at_one_place(steps: &mut [Step]) {
    let mut put = |view: &mut View| {
        if let Place::Arena { offset, .. } = &mut view.place {
            *offset = 0;
        }
    };
    steps.iter_mut().for_each(|step| step.change_views(&mut put));
}

/// Lists of steps: of the entry, and inside of its steps.
fn lists<'a>(steps: &'a mut Vec<Step>, found: &mut dyn FnMut(&mut Vec<Step>)) {
    found(steps);
    for step in steps {
        if let Step::Loop { steps, .. } | Step::Stage { steps, .. } = step {
            lists(steps, found);
        }
    }
}

/// All programs with this mistake at one place.
fn mutants(program: &Program, entry: usize, mistake: StepMistake) -> Vec<Program> {
    let mut places = vec![];
    let mut number = 0;
    lists(&mut program.entries[entry].steps.clone(), &mut |steps| {
        places.extend((0..steps.len()).map(|i| (number, i)));
        number += 1;
    });
    let made = |(list, i): (usize, usize)| {
        let (mut mutant, mut number, mut made) = (program.clone(), 0, false);
        lists(&mut mutant.entries[entry].steps, &mut |steps| {
            if number == list {
                made = mistake(steps, i);
            }
            number += 1;
        });
        made.then_some(mutant)
    };
    places.into_iter().filter_map(made).collect()
}

#[test]
fn every_mistake_in_a_program_is_caught() {
    let stages = Strategy { stages: Stages::Layers(vec![1, 2]), ..strategy(&[("pp", 2)], &[]) };
    let apart = strategy(&[("a", 2), ("b", 2)], &[("heads", "a"), ("ffn", "b"), ("vocab", "b")]);
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    for (fixture, strategy) in [
        ("tiny", megatron(2)),
        ("tiny-eps", stages),
        ("tiny", apart),
        ("tiny", megatron_in_stages()),
        ("tiny", sequence_parallel(2)),
    ] {
        let whole = Made::of(fixture, &strategy);
        assert!(whole.certified(&whole.program).unwrap() < 1e-6);
        let trial_rows = |entry: &&bloomery_ir::program::Entry| (entry.least..=entry.most).contains(&4);
        let entries = whole.program.entries.iter().filter(trial_rows);
        let entries: Vec<usize> =
            entries.map(|entry| whole.program.entries.iter().position(|e| e == entry).unwrap()).collect();
        let mut check = |name: &'static str, mutant: &Program| {
            *made.entry(name).or_default() += 1;
            assert!(whole.catches(mutant), "{fixture} on {:?}: {name}\n{}", strategy.mesh.axes, mutant.print());
        };
        for (name, mistake) in STEPS {
            for entry in &entries {
                mutants(&whole.program, *entry, *mistake).iter().for_each(|mutant| check(name, mutant));
            }
        }
        for (name, mistake) in PROGRAMS {
            let mut mutant = whole.program.clone();
            if mistake(&mut mutant) {
                check(name, &mutant);
            }
        }
    }
    let names = STEPS.iter().map(|(name, _)| *name).chain(PROGRAMS.iter().map(|(name, _)| *name));
    let never: Vec<&str> = names.filter(|name| !made.contains_key(name)).collect();
    assert!(never.is_empty(), "mistakes that were made nowhere: {never:?}");
    assert!(made.values().sum::<usize>() > 60, "{made:?}");
}
