//! Call plans without a device: every call computed as its documents say, on memory that knows what was written to it.
//!
//! A [`Simulation`] holds the arenas of all ranks. A stage's ranks go through the steps together, as ranks of programs do.
//! Numbers are kept as f64, one for each byte that an element begins at, and the bytes inside of an element hold no number:
//! what reads memory that nobody wrote, or wrote as another type, gets NaN, and so does what comes of it. Fresh memory holds
//! none either, as on a device.
//!
//! [`Digits::All`] computes exactly, so that a plan can be compared with the graph it was made from; [`Digits::Chip`] rounds
//! each result once, to the type of the tensor it goes to, and keeps it finite on the first generation, as the chip does.
//! What calls do inside of themselves, in which order and how exactly, documents do not say; nor does this.

mod meaning;
mod memory;

use memory::Memory;

use bloomery_artifact::Artifact;
use bloomery_artifact::plan::{CallPlan, Content, PlanEntry, PlanPart, int8};
use bloomery_ir::ascend::{AclTensor, Exchange, Over, Step};
use bloomery_ir::tensor::{read_element, round};
use bloomery_ir::{Bindings, DType};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// How exactly calls compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    /// In f64, nothing is rounded.
    All,
    /// Every result is rounded once, to its type.
    Chip,
}

/// Tokens of a sequence in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// First row of it.
    pub start: u64,
    /// Rows.
    pub length: u64,
    /// Position of the first.
    pub first: u64,
    /// Its page of the cache.
    pub page: u64,
}

/// All ranks of a plan, with their memory.
pub struct Simulation<'a> {
    plan: &'a CallPlan,
    digits: Digits,
    ranks: Vec<Rank>,
}

/// What one rank has.
struct Rank {
    /// Index of its part.
    part: usize,
    memory: Memory,
    /// The host's inputs and outputs, by name.
    host: BTreeMap<String, Vec<f64>>,
    /// What the rank before has sent.
    received: VecDeque<Vec<f64>>,
}

impl<'a> Simulation<'a> {
    /// Takes memory for all ranks and fills what is there before anything runs. `weight` gives the elements of a parameter
    /// that a rank has, of one of its stage's layers, row major.
    pub fn new(plan: &'a CallPlan, digits: Digits, weight: &dyn Fn(u64, &str, u64) -> Vec<f64>) -> Simulation<'a> {
        let of_stage = plan.ranks_per_stage();
        let rank = |rank: u64| {
            let stage = rank / of_stage;
            let part = plan.parts.iter().position(|part| part.stages.contains(&stage)).expect("every stage has a part");
            let mut memory = Memory::new(&plan.parts[part]);
            fill(plan, &plan.parts[part], rank, &mut memory, weight);
            Rank { part, memory, host: BTreeMap::new(), received: VecDeque::new() }
        };
        Simulation { plan, digits, ranks: (0..plan.mesh.ranks()).map(rank).collect() }
    }

    /// Of an artifact's plan, with its weights; `None` where it is for processors.
    pub fn of(artifact: &'a Artifact, digits: Digits) -> Option<Simulation<'a>> {
        Some(Simulation::with_plan(artifact, artifact.plan()?, digits))
    }

    /// Of another plan, with an artifact's weights.
    pub fn with_plan(artifact: &Artifact, plan: &'a CallPlan, digits: Digits) -> Simulation<'a> {
        let program = artifact.program();
        let weight = |rank: u64, name: &str, layer: u64| {
            let number = program.parameters.iter().position(|parameter| parameter.name == name);
            let number = number.expect("a plan's weights are the program's");
            let parameter = &program.parameters[number];
            let layer = if parameter.stacked { program.first_layer(rank) + layer } else { 0 };
            let (bytes, dtype) = (artifact.parameter(number, layer, rank), parameter.ty.dtype);
            let count = bytes.len() as u64 * 8 / dtype.bits();
            (0..count as usize).map(|i| read_element(dtype, bytes, i)).collect()
        };
        Simulation::new(plan, digits, &weight)
    }

    /// Gives an input to every rank's host.
    pub fn put(&mut self, name: &str, values: &[f64]) {
        self.ranks.iter_mut().for_each(|rank| _ = rank.host.insert(name.to_owned(), values.to_vec()));
    }

    /// What a rank's host has got of an output.
    pub fn get(&self, rank: u64, name: &str) -> Option<&[f64]> {
        self.ranks[rank as usize].host.get(name).map(Vec::as_slice)
    }

    /// Runs the entry of a group that takes so many rows, through all stages.
    ///
    /// # Panics
    /// When a number has no value, or a call means something that is not known here: check the plan first.
    pub fn run(&mut self, group: &str, sizes: &Bindings, sequences: &[Tokens]) {
        let plan = self.plan;
        for part in &plan.parts {
            let entry = part.entries.iter().find(|entry| {
                let rows = sizes.get(&entry.rows).copied();
                entry.group == group && rows.is_some_and(|rows| (entry.least..=entry.most).contains(&rows))
            });
            let Some(entry) = entry else { continue };
            for stage in part.stages.clone() {
                Walk { simulation: self, part, entry, ranks: plan.ranks_of(stage), sequences }
                    .steps(&entry.steps, sizes);
            }
        }
    }
}

fn fill(plan: &CallPlan, part: &PlanPart, rank: u64, memory: &mut Memory, weight: &dyn Fn(u64, &str, u64) -> Vec<f64>) {
    for (number, buffer) in part.buffers.iter().enumerate() {
        match &buffer.content {
            Content::Parameter => {
                for layer in 0..buffer.layers {
                    memory.fill(number, layer, &weight(rank, &buffer.name, layer));
                }
            }
            Content::Int8 { of, columns } => {
                for layer in 0..buffer.layers {
                    // Factors are rounded to the weight's type before numbers are.
                    let dtype = factors_type(part, of);
                    let (numbers, _) = int8(&weight(rank, of, layer), *columns as usize, |factor| round(dtype, factor));
                    memory.fill(number, layer, &numbers);
                }
            }
            Content::Factors { of, columns, dtype } => {
                let dtype = DType::by_name(dtype.name()).expect("factors are floating point");
                for layer in 0..buffer.layers {
                    let (_, factors) = int8(&weight(rank, of, layer), *columns as usize, |factor| round(dtype, factor));
                    memory.fill(number, layer, &factors);
                }
            }
            Content::Distances { over, .. } => {
                let place = over.as_ref().and_then(|axis| plan.mesh.coordinate(rank, axis)).unwrap_or(0);
                memory.fill(number, 0, &buffer.content.distances(place).expect("it is a table"));
            }
            Content::Scratch | Content::State | Content::Io => {}
        }
    }
}

/// The type of a weight's factors.
fn factors_type(part: &PlanPart, weight: &str) -> DType {
    let found = part.buffers.iter().find_map(|buffer| match &buffer.content {
        Content::Factors { of, dtype, .. } if of == weight => DType::by_name(dtype.name()),
        _ => None,
    });
    found.expect("a weight in 8 bits has factors")
}

/// The ranks of a stage on their way through an entry.
struct Walk<'s, 'a> {
    simulation: &'s mut Simulation<'a>,
    part: &'a PlanPart,
    entry: &'a PlanEntry,
    ranks: Range<u64>,
    sequences: &'s [Tokens],
}

impl Walk<'_, '_> {
    fn steps(&mut self, steps: &[Step], sizes: &Bindings) {
        for step in steps {
            match step {
                Step::Loop { over, steps } => {
                    for values in self.rounds(over, sizes) {
                        let mut inside = sizes.clone();
                        inside.extend(values.into_iter().map(|(name, value)| (name.to_owned(), value)));
                        self.steps(steps, &inside);
                    }
                }
                Step::Exchange { what: Exchange::Send, from, .. } => self.send(from, sizes),
                Step::Exchange { what: Exchange::Receive, from, .. } => self.receive(from, sizes),
                Step::Exchange { what, among, from, to } => {
                    self.exchange(*what, among, [from, to.as_ref().expect("it was checked")], sizes);
                }
                step => self.ranks.clone().for_each(|rank| self.alone(rank, step, sizes)),
            }
        }
    }

    /// Values of a loop's names, round by round.
    fn rounds(&self, over: &Over, sizes: &Bindings) -> Vec<Vec<(&'static str, u64)>> {
        match over {
            Over::Layers { from, to } => (*from..*to).map(|layer| vec![("layer", layer)]).collect(),
            Over::Sequences => {
                let of =
                    |s: &Tokens| vec![("start", s.start), ("length", s.length), ("first", s.first), ("page", s.page)];
                self.sequences.iter().map(of).collect()
            }
            Over::Blocks { rows, reach } => {
                let (length, first) = (sizes["length"], sizes["first"]);
                let block = |from: u64| {
                    let rows = (*rows).min(length - from);
                    let context = first + from + rows;
                    vec![("from", from), ("rows", rows), ("context", context), ("ahead", reach - context)]
                };
                (0..length).step_by(*rows as usize).map(block).collect()
            }
        }
    }

    /// A rank's own names: its places along the axes.
    fn numbers(&self, rank: u64, sizes: &Bindings) -> Bindings {
        let mesh = &self.simulation.plan.mesh;
        let places = mesh.axes.iter().filter_map(|(axis, _)| Some((axis.clone(), mesh.coordinate(rank, axis)?)));
        sizes.iter().map(|(name, value)| (name.clone(), *value)).chain(places).collect()
    }

    /// A step that ranks do each for itself, but for products that are summed over them.
    fn alone(&mut self, rank: u64, step: &Step, sizes: &Bindings) {
        let numbers = self.numbers(rank, sizes);
        let (chip, digits) = (self.simulation.plan.chip, self.simulation.digits);
        let own = &mut self.simulation.ranks[rank as usize];
        debug_assert!(std::ptr::eq(self.part, &self.simulation.plan.parts[own.part]));
        match step {
            Step::Call(call) if meaning::is_summed(call) => {
                if rank + 1 == self.ranks.end {
                    self.summed(call, sizes);
                }
            }
            Step::Call(call) => meaning::call(call, &mut own.memory, &numbers, chip, digits),
            Step::Copy { from, to } => {
                let values = own.memory.read(from, &numbers);
                own.memory.write(to, &numbers, &values);
            }
            Step::FromHost { to } => {
                let name = &self.part.buffers[to.buffer].name;
                let values = own.host.get(name).unwrap_or_else(|| panic!("{} wants {name}", self.entry.name));
                own.memory.write(to, &numbers, values);
            }
            Step::ToHost { from } => {
                let values = own.memory.read(from, &numbers);
                own.host.insert(self.part.buffers[from.buffer].name.clone(), values);
            }
            Step::Record(..) | Step::Wait(..) | Step::Fence(_) | Step::Await(_) => {}
            Step::Loop { .. } | Step::Exchange { .. } => unreachable!("ranks do these together"),
        }
    }

    fn read(&self, rank: u64, tensor: &AclTensor, sizes: &Bindings) -> Vec<f64> {
        self.simulation.ranks[rank as usize].memory.read(tensor, &self.numbers(rank, sizes))
    }

    fn write(&mut self, rank: u64, tensor: &AclTensor, sizes: &Bindings, mut values: Vec<f64>) {
        let numbers = self.numbers(rank, sizes);
        let (chip, digits) = (self.simulation.plan.chip, self.simulation.digits);
        meaning::round(&mut values, tensor.dtype, chip, digits);
        self.simulation.ranks[rank as usize].memory.write(tensor, &numbers, &values);
    }

    fn send(&mut self, what: &AclTensor, sizes: &Bindings) {
        for rank in self.ranks.clone() {
            let values = self.read(rank, what, sizes);
            let next = rank + self.ranks.end - self.ranks.start;
            self.simulation.ranks[next as usize].received.push_back(values);
        }
    }

    fn receive(&mut self, what: &AclTensor, sizes: &Bindings) {
        for rank in self.ranks.clone() {
            let values =
                self.simulation.ranks[rank as usize].received.pop_front().expect("the stage before has sent it");
            self.write(rank, what, sizes, values);
        }
    }

    fn exchange(&mut self, what: Exchange, among: &str, [from, to]: [&AclTensor; 2], sizes: &Bindings) {
        let given: BTreeMap<u64, Vec<f64>> =
            self.ranks.clone().map(|rank| (rank, self.read(rank, from, sizes))).collect();
        for rank in self.ranks.clone() {
            let group = self.simulation.plan.mesh.group(rank, among);
            let parts: Vec<&Vec<f64>> = group.iter().map(|rank| &given[rank]).collect();
            let made = match what {
                Exchange::AllGather => parts.iter().flat_map(|part| part.iter().copied()).collect(),
                Exchange::AllReduce => sum(&parts),
                Exchange::ReduceScatter => {
                    let all = sum(&parts);
                    let (place, slice) =
                        (group.iter().position(|r| *r == rank).expect("of its group"), all.len() / group.len());
                    all[place * slice..(place + 1) * slice].to_vec()
                }
                Exchange::Send | Exchange::Receive => unreachable!("these are no exchange of all"),
            };
            self.write(rank, to, sizes, made);
        }
    }

    /// A product of every rank, and the sum of them.
    fn summed(&mut self, call: &bloomery_ir::ascend::Call, sizes: &Bindings) {
        let (among, [left, right, to]) = meaning::summed(call);
        let product = |rank: u64| {
            let numbers = self.numbers(rank, sizes);
            let memory = &self.simulation.ranks[rank as usize].memory;
            meaning::product(memory, left, right, &numbers)
        };
        let given: BTreeMap<u64, Vec<f64>> = self.ranks.clone().map(|rank| (rank, product(rank))).collect();
        for rank in self.ranks.clone() {
            let group = self.simulation.plan.mesh.group(rank, among);
            let parts: Vec<&Vec<f64>> = group.iter().map(|rank| &given[rank]).collect();
            let made = sum(&parts);
            self.write(rank, to, sizes, made);
        }
    }
}

/// In the order of the ranks.
fn sum(parts: &[&Vec<f64>]) -> Vec<f64> {
    (0..parts[0].len()).map(|i| parts.iter().map(|part| part[i]).sum()).collect()
}
