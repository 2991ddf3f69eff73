//! An emitted plan run as a program, against stand-ins for the libraries that write down what they are asked, and compared with
//! what the plan says.

use super::*;
use bloomery_ir::ascend::Exchange;
use half::f16;
use std::path::Path;

#[test]
fn every_rank_makes_the_calls_of_the_plan_in_its_order() {
    for chip in Chip::ALL {
        let plan = plan(chip);
        let folder = tempfile::tempdir().unwrap();
        if build(folder.path(), &plan) {
            (0..4).for_each(|rank| run(folder.path(), &plan, rank));
        } else {
            eprintln!("skipped: there is no C++ compiler");
        }
    }
}

fn run(folder: &Path, plan: &CallPlan, rank: u64) {
    let mut command = Command::new(folder.join("plan"));
    let output = command.args(["0", &rank.to_string()]).arg(folder).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    let (made, expected) = (String::from_utf8_lossy(&output.stdout).into_owned(), Log::of(plan, rank));
    for (i, (made, expected)) in made.lines().zip(expected.lines()).enumerate() {
        assert_eq!(made, expected, "line {i} of rank {rank}");
    }
    assert_eq!(made.lines().count(), expected.lines().count());
    assert!(made.contains("call aclnn"), "{made}");
}

/// Whether there is a program now: `plan` in the folder.
fn build(folder: &Path, plan: &CallPlan) -> bool {
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ascend/include");
    std::fs::write(folder.join("plan.cpp"), source(plan)).unwrap();
    std::fs::write(folder.join("stand_in.cpp"), include_str!("../stand_in.cpp").to_owned() + &phases()).unwrap();
    let mut command = Command::new(std::env::var("CXX").unwrap_or("c++".to_owned()));
    command.args([
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-parameter",
        "-fsanitize=address,undefined",
    ]);
    command.args(["-I", include, "plan.cpp", "stand_in.cpp", "-lpthread", "-o", "plan"]).current_dir(folder);
    let Ok(output) = command.output() else { return false };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

/// Both phases of all calls, for the stand-in.
fn phases() -> String {
    let one = |function: &aclnn::Function| {
        let text = prototype(function);
        let (first, second) = text.trim_end().rsplit_once("aclnnStatus ").unwrap();
        let first = first.replace(");", ") { return planned(workspaceSize, executor); }");
        let issued =
            format!(") {{ return issued(\"{}\", workspace, workspaceSize, executor, stream); }}\n", function.name);
        format!("{first}aclnnStatus {}", second.replace(");", &issued))
    };
    format!("extern \"C\" {{\n{}}}\n", aclnn::functions().iter().map(one).collect::<String>())
}

/// What the stand-ins are expected to write.
struct Log<'a> {
    part: &'a PlanPart,
    rank: u64,
    values: Bindings,
    text: String,
}

impl Log<'_> {
    fn of(plan: &CallPlan, rank: u64) -> String {
        let part = &plan.parts[rank as usize / 2];
        let places = plan.mesh.axes.iter().map(|(axis, _)| (axis.clone(), plan.mesh.coordinate(rank, axis).unwrap()));
        let values = places.chain([("N".to_owned(), 16)]).collect();
        let mut log = Log { part, rank, values, text: String::new() };
        for communicator in &plan.communicators {
            let group = communicator.groups.iter().find(|group| group.contains(&rank)).unwrap();
            let place = group.iter().position(|of| *of == rank).unwrap();
            log.line(format!("join {place} of {}", group.len()));
        }
        log.line("fence compute".to_owned());
        part.buffers.iter().for_each(|buffer| log.filled(buffer));
        for entry in &part.entries {
            log.steps(&entry.steps);
            log.text += "fence compute\nfence transfer\n";
            log.line(format!("rank {rank}: {} ran", entry.name));
        }
        log.text + "fence compute\nfence transfer\n"
    }

    fn line(&mut self, line: String) {
        self.text += &(line + "\n");
    }

    /// What the host writes before anything runs: zeros as parameters, and tables.
    fn filled(&mut self, buffer: &PlanBuffer) {
        let bytes = match &buffer.content {
            Content::Parameter => vec![0; buffer.bytes as usize],
            Content::Distances { over, dtype, .. } => {
                let elements = buffer.content.distances(self.values[over.as_deref().unwrap()]).unwrap();
                let narrow = |x: &f64| match dtype {
                    AclType::F16 => f16::from_f64(*x).to_le_bytes().to_vec(),
                    _ => (*x as f32).to_le_bytes().to_vec(),
                };
                elements.iter().flat_map(narrow).collect()
            }
            _ => return,
        };
        let sum = bytes.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        for layer in 0..buffer.layers {
            let place = self.piece(buffer, layer * buffer.pitch());
            self.line(format!("fill {place} {} {sum:x}", bytes.len()));
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Call(call) => {
                call.args.iter().for_each(|arg| self.arg(arg));
                // The stand-ins always ask for more workspace than there is.
                self.line(format!("fence compute\ncall {} compute", call.name));
            }
            Step::Loop { over: Over::Layers { from, to }, steps } => {
                (*from..*to).for_each(|layer| self.again(&[("layer", layer)], steps));
            }
            Step::Loop { over: Over::Sequences, steps } => {
                self.again(&[("start", 0), ("length", 16), ("first", 0), ("page", 0)], steps);
            }
            Step::Loop { over: Over::Blocks { rows, reach }, steps } => {
                let (length, first) = (self.values["length"], self.values["first"]);
                for from in (0..length).step_by(*rows as usize) {
                    let rows = (*rows).min(length - from);
                    let context = first + from + rows;
                    let names = [("from", from), ("rows", rows), ("context", context), ("ahead", reach - context)];
                    self.again(&names, steps);
                }
            }
            Step::Exchange { what, from, to, .. } => self.exchange(*what, from, to.as_ref().unwrap_or(from)),
            Step::Copy { from, to } => self.copy(3, &self.place(to), &self.place(from), from, "compute"),
            Step::FromHost { to } => self.copy(1, &self.place(to), "host", to, "compute"),
            Step::ToHost { from } => self.copy(2, "host", &self.place(from), from, "transfer"),
            Step::Record(Event(event), Stream::Compute) => self.line(format!("record {event} compute")),
            Step::Wait(Event(event), Stream::Transfer) => self.line(format!("wait {event} transfer")),
            Step::Record(..) | Step::Wait(..) => unreachable!("the plan has no such"),
            Step::Fence(Stream::Compute) => self.line("fence compute".to_owned()),
            Step::Fence(Stream::Transfer) => self.line("fence transfer".to_owned()),
        }
    }

    fn again(&mut self, names: &[(&str, u64)], steps: &[Step]) {
        self.values.extend(names.iter().map(|(name, value)| (String::from(*name), *value)));
        self.steps(steps);
    }

    fn arg(&mut self, arg: &Arg) {
        match arg {
            Arg::Scalar(Scalar::Number(number), AclType::F32) => {
                self.line(format!("scalar 0 {:x}", (*number as f32).to_bits()));
            }
            Arg::Scalar(Scalar::Number(number), AclType::F16) => {
                self.line(format!("scalar 1 {:x}", f16::from_f64(*number).to_bits()));
            }
            Arg::Scalar(Scalar::Count(count), AclType::I64) => self.line(format!("scalar 9 {:x}", self.value(count))),
            Arg::Scalar(Scalar::Count(count), AclType::F16) => {
                self.line(format!("scalar 0 {:x}", (self.value(count) as f32).to_bits()));
            }
            Arg::Scalar(..) => unreachable!("the plan has no such"),
            Arg::Ints(ints) => self.line(format!("ints {:?}", self.all(ints))),
            other => other.tensors().iter().for_each(|tensor| {
                let (dims, strides, storage) =
                    (self.all(&tensor.dims), self.all(&tensor.strides), self.all(&tensor.storage));
                let place = self.at(tensor, &tensor.base);
                let (dtype, offset) = (number(tensor.dtype), self.value(&tensor.offset));
                self.line(format!("tensor {dtype} {place} {offset} {dims:?} {strides:?} {storage:?}"));
            }),
        }
    }

    fn exchange(&mut self, what: Exchange, from: &AclTensor, to: &AclTensor) {
        let (given, got) = (self.place(from), self.place(to));
        let (name, count) = match what {
            Exchange::AllReduce => ("all_reduce".to_owned(), from),
            Exchange::AllGather => ("all_gather".to_owned(), from),
            Exchange::ReduceScatter => ("reduce_scatter".to_owned(), to),
            Exchange::Send => (format!("to {}: send", self.rank + 2), from),
            Exchange::Receive => (format!("from {}: receive", self.rank - 2), from),
        };
        assert_eq!(from.dtype, AclType::F16);
        let count = self.value(&count.elements());
        self.line(format!("{name} {given} {got} {count} 3 compute"));
    }

    fn copy(&mut self, kind: u32, to: &str, from: &str, what: &AclTensor, on: &str) {
        let bytes = self.value(&what.elements()) * what.dtype.bytes();
        self.line(format!("copy {kind} {to} <- {from} {bytes} {on}"));
    }

    /// Where the first element lies.
    fn place(&self, tensor: &AclTensor) -> String {
        self.at(tensor, &tensor.base.plus(&tensor.offset.times(&tensor.dtype.bytes().into())))
    }

    fn at(&self, tensor: &AclTensor, base: &Sum) -> String {
        self.piece(&self.part.buffers[tensor.buffer], self.value(base))
    }

    /// `0+128`: a piece of memory, in the order in which arenas are taken, and bytes.
    fn piece(&self, buffer: &PlanBuffer, base: u64) -> String {
        let before = Arena::ALL.iter().take_while(|arena| **arena != buffer.arena);
        let piece = before.filter(|arena| self.part.arena_bytes(**arena) > 0).count();
        format!("{piece}+{}", buffer.offset + base)
    }

    fn all(&self, sums: &[Sum]) -> Vec<u64> {
        sums.iter().map(|sum| self.value(sum)).collect()
    }

    fn value(&self, sum: &Sum) -> u64 {
        sum.eval(&self.values).unwrap()
    }
}

/// `aclDataType`
fn number(dtype: AclType) -> u32 {
    match dtype {
        AclType::F32 => 0,
        AclType::F16 => 1,
        AclType::I8 => 2,
        AclType::I32 => 3,
        AclType::U8 => 4,
        AclType::I64 => 9,
        AclType::Bool => 12,
        AclType::BF16 => 27,
    }
}
