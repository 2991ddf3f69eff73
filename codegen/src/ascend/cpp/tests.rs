//! The C++ of a hand-made plan, whose calls are those that operations write.

mod run;

use super::*;
use bloomery_artifact::plan::{ArenaSize, Communicator, WORLD, padded};
use bloomery_ir::ascend::{AclTensor, AclType, Call, Chip, Exchange, Lowering, Need, Operand, Scalar, Stream, Sum};
use bloomery_ir::{Bindings, Mesh, Op, ops};
use std::process::Command;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ascend/probe/sample.cpp");

fn sum(text: &str) -> Sum {
    text.parse().unwrap()
}

fn dims(text: &str) -> Vec<Sum> {
    text.split_whitespace().map(sum).collect()
}

/// A part in the making: buffers are as large as they must be.
struct Maker {
    chip: Chip,
    most: Bindings,
    buffers: Vec<PlanBuffer>,
    steps: Vec<Step>,
}

impl Maker {
    fn buffer(&mut self, name: &str, arena: Arena, content: Content, dtype: AclType, shape: &str) -> AclTensor {
        let layers = if arena == Arena::Weights && name.starts_with("h.") { 2 } else { 1 };
        let shape = dims(shape);
        let bytes = Sum::product(&shape).eval(&self.most).unwrap() * dtype.bytes();
        let before = self.buffers.iter().filter(|buffer| buffer.arena == arena);
        let offset = before.map(|buffer| buffer.range().end).max().unwrap_or(0);
        let name = name.to_owned();
        self.buffers.push(PlanBuffer { name, arena, offset, bytes, layers, content });
        let base = if layers == 1 { Sum::default() } else { sum(&format!("{}*layer", padded(bytes))) };
        AclTensor::whole(self.buffers.len() - 1, base, dtype, shape)
    }

    fn parameter(&mut self, name: &str, dtype: AclType, shape: &str) -> AclTensor {
        self.buffer(name, Arena::Weights, Content::Parameter, dtype, shape)
    }

    fn value(&mut self, name: &str, dtype: AclType, shape: &str) -> AclTensor {
        self.buffer(name, Arena::Values, Content::Scratch, dtype, shape)
    }

    fn io(&mut self, name: &str, dtype: AclType, shape: &str) -> AclTensor {
        self.buffer(name, Arena::Io, Content::Io, dtype, shape)
    }

    /// An operation's calls, with the buffers they need.
    fn op(&mut self, op: impl Into<Op>, operands: &[&AclTensor], result: &AclTensor) {
        let op = op.into();
        let operands = operands.iter().map(|tensor| Operand::Tensor((*tensor).clone())).collect();
        let most = self.most.clone();
        let mut io = Lowering::new(self.chip, op.name(), operands, vec![result.clone()], &most, self.buffers.len());
        op.def().ascend(&mut io).unwrap_or_else(|| panic!("{} is computed by calls", op.name()));
        let lowered = io.finish();
        for need in lowered.needs {
            let name = format!("t{}", self.buffers.len());
            match need {
                Need::Temporary(dtype, shape) => {
                    let shape: Vec<String> = shape.iter().map(Sum::to_string).collect();
                    self.buffer(&name, Arena::Temporaries, Content::Scratch, dtype, &shape.join(" "));
                }
                Need::Int8(_) | Need::Factors(_) => unreachable!("no weight of these is kept in 8 bits"),
                Need::Distances { rows, reach, dtype, .. } => {
                    let slopes = vec![0.3, 0.07, 0.011, 1.0e-6];
                    let content =
                        Content::Distances { slopes, over: Some("mp".to_owned()), heads: 2, rows, reach, dtype };
                    self.buffer(&name, Arena::Weights, content, dtype, &format!("2 {rows} {}", reach + rows));
                }
            }
        }
        self.steps.extend(lowered.steps);
    }

    fn looped(&mut self, over: Over, body: impl FnOnce(&mut Self)) {
        let before = std::mem::take(&mut self.steps);
        body(self);
        let steps = std::mem::replace(&mut self.steps, before);
        self.steps.push(Step::Loop { over, steps });
    }

    fn exchange(&mut self, what: Exchange, among: &str, from: &AclTensor, to: Option<&AclTensor>) {
        self.steps.push(Step::Exchange { what, among: among.to_owned(), from: from.clone(), to: to.cloned() });
    }

    fn call(&mut self, name: &str, args: Vec<Arg>) {
        self.steps.push(Step::Call(Call { name: name.to_owned(), args, op: "by hand".to_owned() }));
    }

    fn part(self, stage: u64) -> PlanPart {
        let arena = |arena: Arena| {
            let of = self.buffers.iter().filter(|buffer| buffer.arena == arena);
            ArenaSize { arena, bytes: of.map(|buffer| buffer.range().end).max().unwrap_or(1 << 20) }
        };
        let bounds = self.most.iter().filter(|(name, _)| ["N", "C"].contains(&&name[..]));
        let entry = PlanEntry {
            name: "body_1_16".to_owned(),
            group: "body".to_owned(),
            rows: "N".to_owned(),
            least: 1,
            most: 16,
            bounds: bounds.map(|(name, most)| (name.clone(), *most)).collect(),
            steps: self.steps,
        };
        let arenas = Arena::ALL.map(arena).to_vec();
        PlanPart { stages: stage..stage + 1, layers: 2, arenas, buffers: self.buffers, entries: vec![entry] }
    }
}

fn first_stage(chip: Chip) -> PlanPart {
    let mut m = maker(chip);
    let ids = m.io("ids", AclType::I64, "N");
    let table = m.parameter("word_embeddings", AclType::F16, "256 32");
    let [x, y, owed] = ["x", "y", "owed"].map(|name| m.value(name, AclType::F16, "N 32"));
    let up = m.parameter("h.up", AclType::F16, "32 64");
    let down = m.parameter("h.down", AclType::F16, "64 32");
    let wide = m.value("wide", AclType::F16, "N 64");
    let [q, new] = ["q", "new"].map(|name| m.value(name, AclType::F16, "N 2 8"));
    let attended = m.value("attended", AclType::F16, "N 2 8");
    let kv = m.buffer("kv", Arena::Cache, Content::State, AclType::F16, "C 2 2 64 8");
    let slopes = m.parameter("slopes", AclType::F32, "2");
    let tables = m.io("rows", AclType::I32, "N 3");
    m.steps.push(Step::FromHost { to: ids.clone() });
    m.op(ops::gather::Gather, &[&table, &ids], &x);
    m.looped(Over::Layers { from: 0, to: 2 }, |m| {
        m.op(ops::matmul::MatMul::plain(), &[&x, &up], &wide);
        m.op(ops::gelu::Gelu, &[&wide], &wide);
        m.op(ops::cache_append::CacheAppend, &[&kv, &q, &new, &tables, &tables], &kv);
        m.op(ops::alibi_attention::AlibiAttention { scale: 0.35 }, &[&q, &kv, &tables, &tables, &slopes], &attended);
        m.op(ops::matmul::MatMul::plain(), &[&wide, &down], &owed);
        m.exchange(Exchange::AllReduce, "mp", &owed, Some(&y));
        m.op(ops::add::Add, &[&x, &y], &x);
    });
    m.exchange(Exchange::Send, WORLD, &x, None);
    m.part(0)
}

/// What operations do not write.
fn last_stage(chip: Chip) -> PlanPart {
    let mut m = maker(chip);
    let x = m.value("x", AclType::F16, "N 32");
    let half = m.value("half", AclType::F16, "N 16");
    let other = m.value("a-b", AclType::F16, "N 32");
    let out = m.io("scores", AclType::F32, "N 32");
    m.exchange(Exchange::Receive, WORLD, &x, None);
    m.exchange(Exchange::AllGather, "mp", &half.reshaped(&dims("16*N")).unwrap(), Some(&x));
    m.exchange(Exchange::ReduceScatter, "mp", &x, Some(&half));
    m.steps
        .push(Step::Copy { from: x.narrowed(0, &sum("0"), &sum("1")), to: other.narrowed(0, &sum("8*mp"), &sum("1")) });
    let scalar = |scalar, dtype| Arg::Scalar(scalar, dtype);
    let one = scalar(Scalar::Number(1.0), AclType::F16);
    m.call(
        "aclnnArange",
        vec![
            scalar(Scalar::Count(sum("2*N")), AclType::I64),
            one,
            scalar(Scalar::Count(sum("N")), AclType::F16),
            (&x).into(),
        ],
    );
    m.call("aclnnCat", vec![Arg::Tensors(vec![half.clone(), half.clone()]), Arg::Int(-1), (&x).into()]);
    m.call(
        "aclnnReduceSum",
        vec![
            (&x).into(),
            Arg::Ints(vec![]),
            Arg::Flag(true),
            Arg::Type(AclType::F32),
            out.narrowed(0, &sum("0"), &sum("1")).into(),
        ],
    );
    m.call("aclnnGeluBackwardV2", vec![(&x).into(), x.transposed().into(), Arg::Text("tanh".to_owned()), (&x).into()]);
    let reduced = [Arg::Absent, Arg::Group("mp".to_owned()), Arg::Text("sum".to_owned()), Arg::Int(0), Arg::Int(1)];
    m.call(
        "aclnnMatmulAllReduce",
        [Arg::from(&x), x.transposed().into()].into_iter().chain(reduced).chain([(&other).into()]).collect(),
    );
    m.call(
        "aclnnLayerNorm",
        vec![
            (&x).into(),
            Arg::Ints(dims("32")),
            Arg::Absent,
            Arg::Absent,
            Arg::Real(1e-5),
            (&other).into(),
            Arg::Absent,
            Arg::Absent,
        ],
    );
    m.looped(Over::Sequences, |m| m.steps.push(Step::Fence(Stream::Compute)));
    let event = Event(1);
    m.steps.extend([Step::Record(event, Stream::Compute), Step::Wait(event, Stream::Transfer)]);
    m.steps.extend([Step::ToHost { from: out }, Step::Fence(Stream::Transfer)]);
    m.part(1)
}

fn maker(chip: Chip) -> Maker {
    let most = ["N", "rows", "C", "context", "length"].map(|name| (name.to_owned(), [16, 16, 4, 64, 16]));
    let most = most.into_iter().enumerate().map(|(i, (name, values))| (name, values[i])).collect();
    Maker { chip, most, buffers: vec![], steps: vec![] }
}

fn plan(chip: Chip) -> CallPlan {
    let communicator = |name: &str, groups| Communicator { name: name.to_owned(), groups };
    CallPlan {
        model: "a small model".to_owned(),
        chip,
        soc: vec!["Ascend910A".to_owned()],
        cann: "8.0".to_owned(),
        symbols: vec![],
        mesh: Mesh { axes: vec![("pp".to_owned(), 2), ("mp".to_owned(), 2)] },
        replicas: 1,
        communicators: vec![
            communicator("mp", vec![vec![0, 1], vec![2, 3]]),
            communicator(WORLD, vec![vec![0, 1, 2, 3]]),
        ],
        parts: vec![first_stage(chip), last_stage(chip)],
    }
}

/// Whether a file compiles against our own headers without a warning; `None` without a compiler.
fn complaints(source: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.cpp");
    std::fs::write(&file, source).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ascend/include");
    let mut command = Command::new(std::env::var("CXX").unwrap_or("c++".to_owned()));
    command.args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", include]).arg(file);
    command.output().ok().map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn plans_of_both_chips_compile_without_a_warning() {
    for chip in Chip::ALL {
        let source = source(&plan(chip));
        match complaints(&source) {
            Some(complaints) => assert_eq!(complaints, "", "{source}"),
            None => eprintln!("skipped: there is no C++ compiler"),
        }
    }
}

/// A plan of nothing is a program too.
#[test]
fn the_smallest_plan_compiles() {
    let mut plan = CallPlan { mesh: Mesh::default(), communicators: vec![], ..plan(Chip::A910) };
    plan.parts.truncate(1);
    plan.parts[0].entries[0].steps.clear();
    plan.parts[0].buffers.clear();
    assert_eq!(complaints(&source(&plan)).unwrap_or_default(), "");
}

/// For readers, and for `probe/run.sh`. With `BLESS` in the environment the file is written instead.
#[test]
fn the_sample_is_what_is_emitted() {
    let source = source(&plan(Chip::A910));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(SAMPLE, &source).unwrap();
    }
    assert!(std::fs::read_to_string(SAMPLE).unwrap() == source, "run this test with BLESS=1 and commit");
}
