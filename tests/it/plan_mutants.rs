//! Plans with one mistake: the checks must see each, at every place it can be made; what no check can see, numbers show.

use bloomery_artifact::plan::check::check;
use bloomery_artifact::plan::{CallPlan, Content, PlanEntry};
use bloomery_ir::ascend::{Arg, Call, Chip, Exchange, Over, Scalar, Step, Sum};
use bloomery_runtime::ascend::{Digits, Simulation};

use crate::ascend::{calls, planned, scored};
use crate::fixture::Fixture;

/// A mistake: changes a step, or returns false where it cannot be made there.
type Mistake = (&'static str, fn(&mut Step) -> bool);

/// What the checks see wherever it is done.
const SEEN: &[Mistake] = &[
    ("an argument is missing", |step| of_call(step, |call| call.args.pop().is_some())),
    ("an argument too many", |step| {
        of_call(step, |call| {
            call.args.push(Arg::Absent);
            true
        })
    }),
    ("a tensor is absent", |step| {
        of_call(step, |call| {
            change(call, |arg| {
                let tensor = matches!(arg, Arg::Tensor(_));
                if tensor {
                    *arg = Arg::Int(0);
                }
                tensor
            })
        })
    }),
    ("another name", |step| {
        of_call(step, |call| {
            call.name += "X";
            true
        })
    }),
    ("one row more is written", |step| {
        of_call(step, |call| {
            let Some(tensor) = call.args.iter_mut().rev().find_map(|arg| arg.tensors_mut().first_mut()) else {
                return false;
            };
            if tensor.dims.is_empty() {
                return false;
            }
            tensor.dims[0] = tensor.dims[0].plus(&Sum::number(1));
            true
        })
    }),
    ("a view begins behind its buffer", |step| {
        of_tensor(step, |tensor| {
            tensor.offset = tensor.offset.plus(&Sum::number(1 << 40));
            true
        })
    }),
    ("a storage begins at an odd byte", |step| {
        of_tensor(step, |tensor| {
            tensor.base = tensor.base.plus(&Sum::number(2));
            true
        })
    }),
    ("a stride is missing", |step| of_tensor(step, |tensor| tensor.strides.pop().is_some())),
    ("a buffer that there is none of", |step| {
        of_tensor(step, |tensor| {
            tensor.buffer = 1 << 20;
            true
        })
    }),
    ("a name without a value", |step| {
        of_tensor(step, |tensor| {
            tensor.offset = tensor.offset.plus(&Sum::symbol("elsewhere"));
            true
        })
    }),
    ("rows are integers", |step| {
        of_call(step, |call| {
            let products = ["aclnnMm", "aclnnBatchMatMul", "aclnnMatmulAllReduce", "aclnnGelu", "aclnnSoftmax"];
            let Some(Arg::Tensor(tensor)) = call.args.first_mut() else { return false };
            tensor.dtype = bloomery_ir::ascend::AclType::I32;
            products.contains(&&*call.name)
        })
    }),
    ("a wait for what nobody recorded", |step| match step {
        Step::Wait(event, _) => {
            event.0 += 7;
            true
        }
        _ => false,
    }),
    ("sent is less than received", |step| match step {
        Step::Exchange { what: Exchange::Send, from, .. } => {
            from.dims.pop();
            from.strides.pop();
            true
        }
        _ => false,
    }),
    ("a copy to the host that nobody waits for", |step| match step {
        Step::Fence(stream) => {
            *stream = bloomery_ir::ascend::Stream::Compute;
            true
        }
        _ => false,
    }),
    ("a copy to the host before there is anything", |step| match step {
        Step::Wait(_, stream) => {
            *stream = bloomery_ir::ascend::Stream::Compute;
            true
        }
        _ => false,
    }),
    ("a sum goes nowhere", |step| match step {
        Step::Exchange { what: Exchange::AllReduce, to, .. } => to.take().is_some(),
        _ => false,
    }),
    ("a sum of every second element", |step| match step {
        Step::Exchange { what: Exchange::AllReduce, from, .. } => {
            from.strides.iter_mut().for_each(|stride| *stride = stride.plus(stride));
            true
        }
        _ => false,
    }),
    ("a sum of another type", |step| match step {
        Step::Exchange { what: Exchange::AllReduce, from, .. } => {
            from.dtype = bloomery_ir::ascend::AclType::F16;
            true
        }
        _ => false,
    }),
    ("slices that are not as many as ranks", |step| match step {
        Step::Exchange { what, .. } if *what == Exchange::AllGather => {
            *what = Exchange::AllReduce;
            true
        }
        _ => false,
    }),
    ("another attribute", |step| {
        of_call(step, |call| {
            let known = ["aclnnMm", "aclnnBatchMatMul", "aclnnSoftmax", "aclnnArgMax", "aclnnMatmulAllReduce"];
            known.contains(&&*call.name)
                && change(call, |arg| match arg {
                    Arg::Int(value) => {
                        *value += 3;
                        true
                    }
                    _ => false,
                })
        })
    }),
    ("a communicator that there is none of", |step| match step {
        Step::Exchange { what: Exchange::AllReduce, among, .. } => {
            *among += "x";
            true
        }
        _ => false,
    }),
];

/// What only the numbers show.
const COMPUTED: &[Mistake] = &[
    ("another factor", |step| {
        of_call(step, |call| {
            change(call, |arg| match arg {
                Arg::Scalar(Scalar::Number(value), _) => {
                    *value += 1.0;
                    true
                }
                _ => false,
            })
        })
    }),
    ("another epsilon or scale", |step| {
        of_call(step, |call| {
            change(call, |arg| match arg {
                Arg::Real(value) => {
                    *value += 0.1;
                    true
                }
                _ => false,
            })
        })
    }),
    ("a layer less", |step| match step {
        Step::Loop { over: Over::Layers { to, .. }, .. } => {
            *to -= 1;
            true
        }
        _ => false,
    }),
    ("the table one position on", |step| {
        of_call(step, |call| {
            let table = call.args.iter_mut().flat_map(Arg::tensors_mut);
            let mut table = table.filter(|tensor| tensor.offset.names().any(|name| name == "ahead"));
            table.next().map(|tensor| tensor.offset = tensor.offset.plus(&Sum::number(3))).is_some()
        })
    }),
];

fn of_call(step: &mut Step, change: impl FnOnce(&mut Call) -> bool) -> bool {
    if let Step::Call(call) = step { change(call) } else { false }
}

fn change(call: &mut Call, change: impl FnMut(&mut Arg) -> bool) -> bool {
    call.args.iter_mut().any(change)
}

fn of_tensor(step: &mut Step, change: impl FnOnce(&mut bloomery_ir::ascend::AclTensor) -> bool) -> bool {
    match step {
        Step::Call(call) => call.args.iter_mut().flat_map(Arg::tensors_mut).next().is_some_and(change),
        Step::Exchange { from, .. } | Step::ToHost { from } => change(from),
        Step::FromHost { to } | Step::Copy { to, .. } => change(to),
        _ => false,
    }
}

/// Step number `at` of all steps of an entry, those in loops too.
fn step_mut<'a>(steps: &'a mut [Step], at: &mut usize) -> Option<&'a mut Step> {
    for step in steps {
        if *at == 0 {
            return Some(step);
        }
        *at -= 1;
        if let Step::Loop { steps, .. } = step {
            if let Some(found) = step_mut(steps, at) {
                return Some(found);
            }
        }
    }
    None
}

/// Shows every plan that a mistake makes of a plan, with its number, and says how many there are. Entries that choose tokens
/// are those without, and a call at their end. One copy is changed and put right again: copying takes longer than checking.
fn each_mutant(
    plan: &CallPlan,
    mistake: impl Fn(&mut Step) -> bool,
    wanted: impl Fn(&PlanEntry) -> bool,
    mut show: impl FnMut(usize, &CallPlan),
) -> usize {
    let (mut mutant, mut count) = (plan.clone(), 0);
    let entries =
        plan.parts.iter().enumerate().flat_map(|(p, part)| part.entries.iter().enumerate().map(move |e| (p, e)));
    for (p, (e, entry)) in entries.filter(|(_, (_, entry))| wanted(entry) && !entry.group.ends_with("_greedy")) {
        for at in 0.. {
            let Some(step) = step_mut(&mut mutant.parts[p].entries[e].steps, &mut { at }) else { break };
            let right = step.clone();
            if mistake(step) {
                show(count, &mutant);
                count += 1;
            }
            *step_mut(&mut mutant.parts[p].entries[e].steps, &mut { at }).expect("it was there") = right;
        }
        assert!(mutant.parts[p].entries[e] == *entry, "all is put right");
    }
    count
}

#[test]
fn the_checks_see_every_mistake() {
    for chip in Chip::ALL {
        let compiled = planned("tiny", chip, "mp=2,pp=2");
        let plan = compiled.artifact.plan().unwrap();
        check(plan).unwrap();
        for (what, mistake) in SEEN {
            // Entries of more rows have the same steps and others of their own sizes.
            let count = each_mutant(
                plan,
                mistake,
                |entry| entry.least == 1,
                |number, mutant| {
                    assert!(check(mutant).is_err(), "{chip}: {what}, mutant {number} of it");
                },
            );
            assert!(count > 0, "{chip}: {what} is made nowhere");
        }
    }
}

#[test]
fn a_call_that_is_left_out_is_missed_by_who_reads_its_result() {
    for chip in Chip::ALL {
        let compiled = planned("tiny", chip, "mp=2,pp=2");
        let plan = compiled.artifact.plan().unwrap();
        let mut count = 0;
        for (p, part) in plan.parts.iter().enumerate() {
            for (e, entry) in part.entries.iter().enumerate() {
                for path in writers(part, &entry.steps, &entry.steps) {
                    let mut mutant = plan.clone();
                    remove(&mut mutant.parts[p].entries[e].steps, &path);
                    mutant.symbols = bloomery_artifact::plan::check::symbols(&mutant).into_iter().collect();
                    assert!(check(&mutant).is_err(), "{chip}, {}: step {path:?} is not missed", entry.name);
                    count += 1;
                }
            }
        }
        assert!(count > 50, "{chip}: {count} steps");
    }
}

/// Steps that make what is not there before them: not those that change a value in place, or a part of one, or where another
/// value lay at the same place before.
fn writers(part: &bloomery_artifact::plan::PlanPart, steps: &[Step], all: &[Step]) -> Vec<Vec<usize>> {
    let mut paths = vec![];
    for (i, step) in steps.iter().enumerate() {
        let alone = |buffer: usize| {
            part.buffers[buffer].content == Content::Scratch
                && writes(all).iter().filter(|to| **to == buffer).count() == 1
        };
        paths.extend(written(step).is_some_and(alone).then(|| vec![i]));
        paths.extend(writers(part, step.inside(), all).into_iter().map(|path| [vec![i], path].concat()));
    }
    paths
}

/// The buffer that a step makes anew.
fn written(step: &Step) -> Option<usize> {
    let to = match step {
        Step::Call(call) if !call.name.contains("Inplace") => {
            call.args.iter().rev().find_map(|arg| arg.tensors().first())
        }
        Step::Call(call) => call.args[0].tensors().first().filter(|_| call.name != "aclnnInplaceAdd"),
        Step::Exchange { to, .. } => to.as_ref(),
        Step::Copy { to, .. } => Some(to),
        _ => None,
    };
    to.map(|to| to.buffer)
}

fn writes(steps: &[Step]) -> Vec<usize> {
    steps.iter().flat_map(|step| written(step).into_iter().chain(writes(step.inside()))).collect()
}

fn remove(steps: &mut Vec<Step>, path: &[usize]) {
    match (path, steps) {
        ([last], steps) => _ = steps.remove(*last),
        ([first, rest @ ..], steps) => {
            let Step::Loop { steps, .. } = &mut steps[*first] else { panic!("it is a loop") };
            remove(steps, rest);
        }
        ([], _) => {}
    }
}

#[test]
fn values_that_live_at_once_may_not_share_memory() {
    let compiled = planned("tiny", Chip::A910, "mp=1");
    let plan = compiled.artifact.plan().unwrap();
    // What the norm before attention made is read by the product; so is what attention read, by the residual sum.
    let mut caught = 0;
    let buffers = &plan.parts[0].buffers;
    for (i, j) in (0..buffers.len()).flat_map(|i| (0..i).map(move |j| (i, j))) {
        if buffers[i].arena != buffers[j].arena || buffers[i].offset == buffers[j].offset {
            continue;
        }
        let mut mutant = plan.clone();
        mutant.parts[0].buffers[i].offset = buffers[j].offset;
        let fixed = |b: &bloomery_artifact::plan::PlanBuffer| b.content != Content::Scratch;
        let refused = check(&mutant).is_err();
        caught += usize::from(refused);
        assert!(refused || !fixed(&buffers[i]) || !fixed(&buffers[j]), "%{} on %{}", buffers[i].name, buffers[j].name);
    }
    assert!(caught > 100, "{caught} overlaps are seen");
}

/// Plans whose numbers are of no use are refused before anything is done with them.
#[test]
fn foreign_plans_are_refused_at_once() {
    let compiled = planned("tiny", Chip::B910, "mp=2,pp=2");
    let plan = compiled.artifact.plan().unwrap();
    type Change = fn(&mut CallPlan);
    let changes: [(&str, Change); 14] = [
        ("replicas", |plan| plan.replicas = 1 << 40),
        ("no replicas", |plan| plan.replicas = 0),
        ("a stage twice", |plan| plan.parts[1].stages = 0..1),
        ("stages backwards", |plan| plan.parts[0].stages.start = 9),
        ("a stage that is not there", |plan| _ = plan.parts.pop()),
        ("groups of others", |plan| plan.communicators[0].groups = vec![vec![0], vec![1]]),
        ("a buffer as large as numbers go", |plan| plan.parts[0].buffers[0].bytes = u64::MAX),
        ("a buffer in the middle of a piece", |plan| plan.parts[0].buffers[0].offset += 32),
        ("an arena as large as numbers go", |plan| plan.parts[0].arenas[0].bytes = u64::MAX),
        ("many buffers", |plan| {
            let buffer = plan.parts[0].buffers[0].clone();
            plan.parts[0].buffers.resize(40_000, buffer);
        }),
        ("rows from 4 to 1", |plan| plan.parts[0].entries[0].least = 4),
        ("a name of loops", |plan| plan.parts[0].entries[0].bounds.push(("first".to_owned(), 7))),
        ("layers of nobody", |plan| plan.parts[0].layers = u64::MAX),
        ("a symbol is missing", |plan| _ = plan.symbols.pop()),
    ];
    for (what, change) in changes {
        let mut mutant = plan.clone();
        change(&mut mutant);
        assert!(check(&mutant).is_err(), "{what}");
    }
}

#[test]
fn a_result_may_not_lie_on_an_operand() {
    for chip in Chip::ALL {
        let compiled = planned("tiny", chip, "mp=1");
        let plan = compiled.artifact.plan().unwrap();
        let onto = |step: &mut Step| {
            let Step::Call(call) = step else { return false };
            let moves = ["aclnnMm", "aclnnSoftmax", "aclnnLayerNorm", "aclnnBatchMatMul"].contains(&&*call.name);
            let first = call.args[0].tensors()[0].clone();
            let result = call.args.iter_mut().rev().find_map(|arg| arg.tensors_mut().first_mut()).unwrap();
            let fits = moves && first.dims == result.dims && first.dtype == result.dtype;
            if fits {
                *result = first;
            }
            fits
        };
        let count = each_mutant(
            plan,
            onto,
            |_| true,
            |_, mutant| {
                let error = check(mutant).unwrap_err().to_string();
                assert!(
                    error.contains("in the same memory") || error.contains("nobody has written"),
                    "{chip}: {error}"
                );
            },
        );
        assert!(count > 0, "{chip}");
    }
}

#[test]
fn numbers_show_what_checks_cannot() {
    let fixture = Fixture::open("tiny");
    for chip in Chip::ALL {
        let compiled = planned("tiny", chip, "mp=1");
        let artifact = &*compiled.artifact;
        let run = |plan: &CallPlan| -> Vec<f64> {
            let mut simulation = Simulation::with_plan(artifact, plan, Digits::All);
            // Of many rows, and of one.
            let some = calls(&fixture).into_iter().step_by(2);
            some.flat_map(|(ids, sequences)| {
                let (logits, chosen) = scored(&mut simulation, 1, 1, &ids, &sequences);
                [logits, chosen].concat()
            })
            .collect()
        };
        let right = run(artifact.plan().unwrap());
        for (what, mistake) in COMPUTED {
            let count = each_mutant(
                artifact.plan().unwrap(),
                mistake,
                |_| true,
                |number, mutant| {
                    let wrong = run(mutant);
                    let apart = right.iter().zip(&wrong).any(|(a, b)| (a - b).abs() > 1e-6 || b.is_nan());
                    assert!(apart, "{chip}: {what}, mutant {number} of it");
                },
            );
            assert!(count > 0, "{chip}: {what} is made nowhere");
        }
    }
}
