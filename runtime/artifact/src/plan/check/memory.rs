//! Views in buffers, buffers in arenas, and values from their writing to their last reading.

use super::{PlanError, place};
use crate::plan::aclnn::function;
use crate::plan::{Arena, CallPlan, Content, PlanEntry, PlanPart};
use bloomery_ir::Bindings;
use bloomery_ir::ascend::{AclTensor, Event, Over, Step, Stream, Sum};
use std::collections::{BTreeMap, BTreeSet};

/// The rules of device memory: pieces at multiples of 64 bytes inside of their arena, none of which is used twice but for
/// scratch.
///
/// Returns of each buffer of scratch the others that share bytes with it.
pub(super) fn arenas(part: &PlanPart) -> Result<Overlaps, PlanError> {
    let wrong = |name: &str, what: String| {
        let place = format!("stages {}..{}, %{name}", part.stages.start, part.stages.end);
        Err(PlanError { place, what })
    };
    let mut kept: BTreeMap<Arena, Vec<(u64, u64, &str)>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for buffer in &part.buffers {
        let range = buffer.range();
        if !names.insert(&buffer.name) {
            return wrong(&buffer.name, "two buffers have this name".to_owned());
        }
        let bytes = part.arena_bytes(buffer.arena);
        if range.end > bytes {
            return wrong(&buffer.name, format!("it ends at byte {} of {bytes} of {}", range.end, buffer.arena.name()));
        }
        if buffer.content != Content::Scratch {
            kept.entry(buffer.arena).or_default().push((range.start, range.end, &buffer.name));
        }
    }
    for ranges in kept.values_mut() {
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if pair[1].0 < pair[0].1 {
                return wrong(pair[1].2, format!("it begins at byte {}, where %{} still lies", pair[1].0, pair[0].2));
            }
        }
    }
    let scratch = |i: &usize| part.buffers[*i].content == Content::Scratch;
    let shares = |i: usize, j: usize| {
        let (a, b) = (&part.buffers[i], &part.buffers[j]);
        i != j && a.arena == b.arena && a.range().start < b.range().end && b.range().start < a.range().end
    };
    let all = 0..part.buffers.len();
    Ok(all.clone().map(|i| all.clone().filter(|j| scratch(&i) && shares(i, *j)).collect()).collect())
}

/// For each buffer, others that share bytes with it.
pub(super) type Overlaps = Vec<Vec<usize>>;

/// Checks that views lie in their buffers.
pub(super) fn views(plan: &CallPlan, part: &PlanPart, entry: &PlanEntry) -> Result<(), PlanError> {
    let all = |numbers: &Bindings| Views { part, entry }.steps(&entry.steps, numbers);
    corners(plan, entry).iter().try_for_each(all)
}

/// Checks that what is read was written, and is still there; and that the host gets what has arrived.
pub(super) fn values(part: &PlanPart, entry: &PlanEntry, overlaps: &Overlaps) -> Result<(), PlanError> {
    let mut values = Values::new(part, entry, overlaps);
    values.steps(&entry.steps)?;
    match values.leaving.first() {
        None => Ok(()),
        Some(buffer) => {
            let place = format!("stages {}..{}, {}", part.stages.start, part.stages.end, entry.name);
            let what = format!("the host does not wait for %{}, which is on its way to it", part.buffers[*buffer].name);
            Err(PlanError { place, what })
        }
    }
}

/// Numbers of calls at the ends of what there can be: an expression that is right at all of them is right between them.
fn corners(plan: &CallPlan, entry: &PlanEntry) -> Vec<Bindings> {
    let axes = |last: bool| {
        plan.mesh.axes.iter().map(move |(axis, size)| (axis.clone(), if last { size.saturating_sub(1) } else { 0 }))
    };
    let of = |rows: u64, last: bool| {
        let mut numbers: Bindings = entry.bounds.iter().cloned().collect();
        numbers.insert(entry.rows.clone(), rows);
        numbers.extend(axes(last));
        numbers
    };
    [(entry.least, false), (entry.most, true)].map(|(rows, last)| of(rows, last)).into()
}

struct Views<'a> {
    part: &'a PlanPart,
    entry: &'a PlanEntry,
}

impl Views<'_> {
    fn steps(&self, steps: &[Step], numbers: &Bindings) -> Result<(), PlanError> {
        for step in steps {
            if let Step::Loop { over, steps } = step {
                for numbers in self.rounds(over, numbers) {
                    self.steps(steps, &numbers)?;
                }
                continue;
            }
            for tensor in tensors(step) {
                let wrong = |what| PlanError { place: place(self.part, self.entry, step), what };
                self.inside(tensor, numbers).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Rounds of a loop at the ends of what there can be.
    fn rounds(&self, over: &Over, numbers: &Bindings) -> Vec<Bindings> {
        let with = |values: &[(&str, u64)]| {
            let mut numbers = numbers.clone();
            numbers.extend(values.iter().map(|(name, value)| ((*name).to_owned(), *value)));
            numbers
        };
        let get = |name: &str| numbers.get(name).copied().unwrap_or(0);
        match over {
            Over::Layers { from, to } => [*from, to.saturating_sub(1)].map(|layer| with(&[("layer", layer)])).into(),
            Over::Sequences => {
                let (rows, page) = (get(&self.entry.rows), get("C").saturating_sub(1));
                let reach = reach(&self.entry.steps).unwrap_or(rows);
                let length = rows.min(reach).max(1);
                let last = rows.max(1) - 1;
                let of = |start, length, first, page| {
                    with(&[("start", start), ("length", length), ("first", first), ("page", page)])
                };
                vec![
                    of(0, length, 0, 0),
                    of(0, length, reach.saturating_sub(length), page),
                    of(last, 1, reach.saturating_sub(1), page),
                ]
            }
            Over::Blocks { rows, reach } => {
                let (length, first, most) = (get("length"), get("first"), (*rows).max(1));
                let of = |from: u64| {
                    let rows = most.min(length - from);
                    let context = first + from + rows;
                    with(&[
                        ("from", from),
                        ("rows", rows),
                        ("context", context),
                        ("ahead", reach.saturating_sub(context)),
                    ])
                };
                [0, length.saturating_sub(1) / most * most].map(of).into()
            }
        }
    }

    fn inside(&self, tensor: &AclTensor, numbers: &Bindings) -> Result<(), String> {
        let buffer = self.part.buffers.get(tensor.buffer).ok_or("it uses a buffer that there is none of")?;
        if tensor.dims.len() > 8 || tensor.dims.len() != tensor.strides.len() {
            let (dims, strides) = (tensor.dims.len(), tensor.strides.len());
            return Err(format!("%{} has {dims} dims and {strides} strides; at most 8 of each", buffer.name));
        }
        let eval = |sum: &Sum| sum.eval(numbers).map_err(|error| format!("%{}: {error}", buffer.name));
        let all = |sums: &[Sum]| sums.iter().map(eval).collect::<Result<Vec<u64>, String>>();
        let (base, offset) = (eval(&tensor.base)?, eval(&tensor.offset)?);
        let (dims, strides, storage) = (all(&tensor.dims)?, all(&tensor.strides)?, all(&tensor.storage)?);
        let product = storage.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim));
        let elements = product.ok_or_else(|| format!("%{} is larger than 64 bits hold", buffer.name))?;
        let reach = dims
            .iter()
            .zip(&strides)
            .try_fold(offset, |last, (dim, stride)| last.checked_add(dim.saturating_sub(1).checked_mul(*stride)?));
        let last = reach.ok_or_else(|| format!("%{} reaches beyond 64 bits", buffer.name))?;
        if dims.iter().all(|dim| *dim > 0) && last >= elements {
            return Err(format!("%{} reaches element {last} of {elements}, at {numbers:?}", buffer.name));
        }
        let end = elements.checked_mul(tensor.dtype.bytes()).and_then(|bytes| bytes.checked_add(base));
        let bytes = buffer.pitch().saturating_mul(buffer.layers.saturating_sub(1)).saturating_add(buffer.bytes);
        if end.is_none_or(|end| end > bytes) {
            return Err(format!("%{} ends at byte {end:?} of {bytes}, at {numbers:?}", buffer.name));
        }
        if base % 32 != 0 {
            return Err(format!("%{} begins at byte {base}, no multiple of 32", buffer.name));
        }
        Ok(())
    }
}

/// Positions a sequence can have, as blocks say.
fn reach(steps: &[Step]) -> Option<u64> {
    steps.iter().find_map(|step| match step {
        Step::Loop { over: Over::Blocks { reach, .. }, .. } => Some(*reach),
        step => reach(step.inside()),
    })
}

fn tensors(step: &Step) -> Vec<&AclTensor> {
    let (read, written) = reads_and_writes(step);
    read.into_iter().chain(written).collect()
}

/// What a step reads and what it writes; what is written in place is both.
pub(crate) fn reads_and_writes(step: &Step) -> (Vec<&AclTensor>, Vec<&AclTensor>) {
    match step {
        Step::Call(call) => {
            let parameters = function(&call.name).map_or(&[][..], |function| &function.parameters);
            let (mut read, mut written) = (vec![], vec![]);
            // What is only overwritten, in whole or in part, is not read.
            let overwrites = matches!(&*call.name, "aclnnInplaceCopy" | "aclnnInplaceZero");
            for (arg, parameter) in call.args.iter().zip(parameters) {
                let writes = parameter.is_output() || parameter.is_both();
                if writes {
                    written.extend(arg.tensors());
                }
                if !(parameter.is_output() || parameter.is_both() && overwrites) {
                    read.extend(arg.tensors());
                }
            }
            (read, written)
        }
        Step::Exchange { what: bloomery_ir::ascend::Exchange::Receive, from, .. } => (vec![], vec![from]),
        Step::Exchange { from, to, .. } => (vec![from], to.iter().collect()),
        Step::Copy { from, to } => (vec![from], vec![to]),
        Step::FromHost { to } => (vec![], vec![to]),
        Step::ToHost { from } => (vec![from], vec![]),
        Step::Loop { .. } | Step::Record(..) | Step::Wait(..) | Step::Fence(_) | Step::Await(_) => (vec![], vec![]),
    }
}

/// Which buffers hold what was written to them, and how far streams and the host have got.
struct Values<'a> {
    part: &'a PlanPart,
    entry: &'a PlanEntry,
    overlaps: &'a Overlaps,
    holds: Vec<bool>,
    /// For each buffer, how many steps had been done when the compute stream wrote it last.
    written: Vec<u64>,
    done: u64,
    /// For each event, how many steps had been done when the compute stream recorded it.
    recorded: BTreeMap<Event, u64>,
    /// Up to where the transfer stream has waited for the compute stream.
    waited: u64,
    /// Buffers on their way to the host.
    leaving: BTreeSet<usize>,
}

impl<'a> Values<'a> {
    fn new(part: &'a PlanPart, entry: &'a PlanEntry, overlaps: &'a Overlaps) -> Values<'a> {
        let elsewhere = written_elsewhere(part, entry);
        let before = |(i, buffer): (usize, &crate::plan::PlanBuffer)| match buffer.content {
            Content::Scratch => false,
            Content::Io => elsewhere.contains(&i),
            _ => true,
        };
        let holds = part.buffers.iter().enumerate().map(before).collect();
        let (recorded, leaving) = (BTreeMap::new(), BTreeSet::new());
        let written = vec![0; part.buffers.len()];
        Values { part, entry, overlaps, holds, written, done: 0, recorded, waited: 0, leaving }
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), PlanError> {
        for step in steps {
            self.done += 1;
            self.step(step).map_err(|what| PlanError { place: place(self.part, self.entry, step), what })?;
            // Twice: what the next round reads must have outlived this one.
            self.steps(step.inside())?;
            self.steps(step.inside())?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Record(event, Stream::Compute) => _ = self.recorded.insert(*event, self.done),
            Step::Wait(event, Stream::Transfer) => {
                self.waited = self.recorded.get(event).copied().unwrap_or(0).max(self.waited);
            }
            Step::Fence(Stream::Transfer) => self.leaving.clear(),
            Step::ToHost { from } => self.leave(from)?,
            _ => {}
        }
        let (read, written) = reads_and_writes(step);
        read.iter().try_for_each(|tensor| self.read(tensor))?;
        for tensor in written {
            for other in &read {
                self.apart(step, tensor, other)?;
            }
            self.write(tensor)?;
        }
        Ok(())
    }

    fn name(&self, buffer: usize) -> &str {
        &self.part.buffers[buffer].name
    }

    fn read(&self, tensor: &AclTensor) -> Result<(), String> {
        if self.holds[tensor.buffer] {
            return Ok(());
        }
        let name = self.name(tensor.buffer);
        Err(format!("it reads %{name}, which nobody has written, or something else has since"))
    }

    fn write(&mut self, tensor: &AclTensor) -> Result<(), String> {
        let (buffer, name) = (tensor.buffer, self.name(tensor.buffer).to_owned());
        if !matches!(self.part.buffers[buffer].content, Content::Scratch | Content::State | Content::Io) {
            return Err(format!("it writes %{name}, which stays as it is"));
        }
        if self.leaving.iter().any(|leaving| *leaving == buffer || self.overlaps[buffer].contains(leaving)) {
            return Err(format!("it writes %{name}, which is still on its way to the host"));
        }
        for &other in &self.overlaps[buffer] {
            self.holds[other] = false;
        }
        self.holds[buffer] = true;
        self.written[buffer] = self.done;
        Ok(())
    }

    fn leave(&mut self, from: &AclTensor) -> Result<(), String> {
        if self.written[from.buffer] > self.waited {
            let name = self.name(from.buffer);
            return Err(format!("the transfer stream has not waited for %{name}, which the compute stream writes"));
        }
        self.leaving.insert(from.buffer);
        Ok(())
    }

    /// A result may lie where an operand does if it is the same place of the same, element by element or because the call
    /// works in place.
    fn apart(&self, step: &Step, result: &AclTensor, operand: &AclTensor) -> Result<(), String> {
        let by_element = matches!(step, Step::Call(call) if is_by_element(&call.name));
        let same = result == operand && (by_element || is_in_place(step));
        let shares = result.buffer == operand.buffer || self.overlaps[result.buffer].contains(&operand.buffer);
        if same || !shares {
            return Ok(());
        }
        let (a, b) = (self.name(result.buffer), self.name(operand.buffer));
        Err(format!("it writes %{a} while it reads %{b} in the same memory"))
    }
}

/// Calls of which each element comes of those in its place.
fn is_by_element(name: &str) -> bool {
    const CALLS: [&str; 10] = ["Add", "Sub", "Mul", "Div", "Adds", "Muls", "Neg", "Tanh", "Sqrt", "Gelu"];
    CALLS.iter().any(|call| name.strip_prefix("aclnn") == Some(call))
}

fn is_in_place(step: &Step) -> bool {
    matches!(step, Step::Call(call) if call.name.starts_with("aclnnInplace"))
}

/// Inputs and outputs that other entries of the part write.
fn written_elsewhere(part: &PlanPart, entry: &PlanEntry) -> BTreeSet<usize> {
    let mut written = BTreeSet::new();
    let others = part.entries.iter().filter(|other| other.group != entry.group);
    others.flat_map(|other| &other.steps).for_each(|step| {
        step.visit(&mut |step| written.extend(reads_and_writes(step).1.iter().map(|tensor| tensor.buffer)));
    });
    written
}
