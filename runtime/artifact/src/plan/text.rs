//! Call plans as text, written. `parse(print(p)) == p` for every plan that [`check`](super::check) lets through.
//!
//! A tensor shows what differs from all of a row-major storage:
//! `%kv+64*layer:f16[4, length, 8] at 8*first strides [128, 8, 1] of [4, 16, 8]` lies `64*layer` bytes into the buffer, where
//! a storage of `[4, 16, 8]` begins, and its first element `8*first` elements further on. Strides are left out when they are
//! those of the storage, or of the dims where the storage has not as many. [`parse`](super::parse) is the way back.

use super::{Communicator, Content, PlanBuffer, PlanEntry, PlanPart, aclnn};
use bloomery_ir::ascend::{AclTensor, AclType, Arg, Call, Event, Exchange, Over, Scalar, Step, Stream, Sum};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

pub use super::CallPlan;

/// Columns that lines fill.
const WIDTH: usize = 118;

/// Products added in one sum, at most: more are read nowhere, and strides with more are written out.
pub(super) const TERMS_MOST: usize = 64;

/// A whole plan.
pub fn print(plan: &CallPlan) -> String {
    let mut text = format!("plan {} for {}\n", word(&plan.model), plan.chip);
    let _ = writeln!(text, "{}", filled("soc [", plan.soc.iter().map(|name| word(name)), "]", 0));
    let _ = writeln!(text, "cann {}", word(&plan.cann));
    let _ = writeln!(text, "mesh [{}]", sizes(&plan.mesh.axes));
    let _ = writeln!(text, "replicas {}", plan.replicas);
    for communicator in &plan.communicators {
        let _ = writeln!(text, "{}", print_communicator(communicator));
    }
    let _ = writeln!(text, "{}", filled("symbols [", plan.symbols.iter().map(|name| word(name)), "]", 0));
    for part in &plan.parts {
        text += &print_part(part);
    }
    text
}

/// `communicator mp [0, 1] [2, 3]`, or a line for each group where there are many ranks.
fn print_communicator(communicator: &Communicator) -> String {
    let name = format!("communicator {}", word(&communicator.name));
    let groups = communicator.groups.iter().map(|group| format!(" [{}]", joined(group)));
    let line = name.clone() + &groups.collect::<String>();
    if line.len() <= WIDTH {
        return line;
    }
    let group = |group: &Vec<u64>| "\n    ".to_owned() + &filled("[", group.iter().map(u64::to_string), "]", 4);
    name + &communicator.groups.iter().map(group).collect::<String>()
}

fn print_part(part: &PlanPart) -> String {
    let mut text = format!("\npart stages {}..{}, layers {} {{\n", part.stages.start, part.stages.end, part.layers);
    for size in &part.arenas {
        let _ = writeln!(text, "  arena {} {}", size.arena.name(), size.bytes);
    }
    let names = Names::of(part);
    for buffer in &part.buffers {
        let _ = writeln!(text, "  {}", print_buffer(buffer));
    }
    for entry in &part.entries {
        text += &print_entry(entry, &names);
    }
    text + "}\n"
}

/// `%w = weights+128, 4096 bytes, 12 layers, parameter`
fn print_buffer(buffer: &PlanBuffer) -> String {
    let layers = if buffer.layers == 1 { String::new() } else { format!(", {} layers", buffer.layers) };
    let place = format!("{}+{}", buffer.arena.name(), buffer.offset);
    let head = format!("%{} = {place}, {} bytes{layers}, ", word(&buffer.name), buffer.bytes);
    match &buffer.content {
        Content::Scratch => head + "scratch",
        Content::Parameter => head + "parameter",
        Content::State => head + "state",
        Content::Io => head + "io",
        Content::Int8 { of, columns } => format!("{head}int8 of {}, {columns} columns", word(of)),
        Content::Factors { of, columns, dtype } => format!("{head}factors {dtype} of {}, {columns} columns", word(of)),
        Content::Distances { slopes, over, heads, rows, reach, dtype } => {
            let over = over.as_ref().map_or(String::new(), |axis| format!(" over {}", word(axis)));
            let head = format!("{head}distances {dtype}, {heads} heads{over}, {rows} rows, reach {reach}, slopes [");
            filled(&head, slopes.iter().map(|slope| real(*slope)), "]", 2)
        }
    }
}

fn print_entry(entry: &PlanEntry, names: &Names<'_>) -> String {
    let rows = format!("{} {}..{}", word(&entry.rows), entry.least, entry.most);
    let bounds = sizes(&entry.bounds);
    let mut text = format!("\n  entry {} of {}, {rows}, bounds [{bounds}] {{\n", word(&entry.name), word(&entry.group));
    print_steps(&entry.steps, names, 4, &mut text);
    text + "  }\n"
}

fn print_steps(steps: &[Step], names: &Names<'_>, indent: usize, text: &mut String) {
    for step in steps {
        let _ = writeln!(text, "{:indent$}{}", "", print_step(step, names, indent));
        if let Step::Loop { steps, .. } = step {
            print_steps(steps, names, indent + 2, text);
            let _ = writeln!(text, "{:indent$}}}", "");
        }
    }
}

/// One step, of a loop its first line.
fn print_step(step: &Step, names: &Names<'_>, indent: usize) -> String {
    let tensor = |tensor: &AclTensor| names.tensor(tensor);
    match step {
        Step::Call(call) => print_call(call, names, indent),
        Step::Loop { over, .. } => format!("for {} {{", print_over(*over)),
        Step::Exchange { what, among, from, to } => {
            let to = to.as_ref().map_or(String::new(), |to| format!(" -> {}", tensor(to)));
            format!("{} over {} {}{to}", exchange(*what), word(among), tensor(from))
        }
        Step::Copy { from, to } => format!("copy {} -> {}", tensor(from), tensor(to)),
        Step::FromHost { to } => format!("from_host {}", tensor(to)),
        Step::ToHost { from } => format!("to_host {}", tensor(from)),
        Step::Record(Event(event), on) => format!("record {event} on {}", stream(*on)),
        Step::Wait(Event(event), on) => format!("wait {event} on {}", stream(*on)),
        Step::Fence(on) => format!("fence {}", stream(*on)),
    }
}

fn print_over(over: Over) -> String {
    match over {
        Over::Layers { from, to } => format!("layers {from}..{to}"),
        Over::Sequences => "sequences".to_owned(),
        Over::Blocks { rows, reach } => format!("blocks of {rows}, reach {reach}"),
    }
}

/// How exchanges are written.
pub(super) const EXCHANGES: [(&str, Exchange); 5] = [
    ("all_reduce", Exchange::AllReduce),
    ("all_gather", Exchange::AllGather),
    ("reduce_scatter", Exchange::ReduceScatter),
    ("send", Exchange::Send),
    ("receive", Exchange::Receive),
];

fn exchange(what: Exchange) -> &'static str {
    EXCHANGES.iter().find(|(_, known)| *known == what).expect("all are listed").0
}

/// How streams are written.
pub(super) const STREAMS: [(&str, Stream); 2] = [("compute", Stream::Compute), ("transfer", Stream::Transfer)];

fn stream(on: Stream) -> &'static str {
    STREAMS.iter().find(|(_, known)| *known == on).expect("all are listed").0
}

/// `gelu: aclnnGelu(self=%a0:f32[N, 4096], out=%a1:f32[N, 4096])`
fn print_call(call: &Call, names: &Names<'_>, indent: usize) -> String {
    // What may stand behind a tensor would be read as part of the one before.
    let op = if matches!(&call.op[..], "at" | "of" | "strides") { quoted(&call.op) } else { word(&call.op) };
    let parameters = parameters(&call.name);
    let args = call.args.iter().enumerate().map(|(i, arg)| match parameters.get(i) {
        Some(parameter) => format!("{}={}", parameter.name, names.arg(arg)),
        None => names.arg(arg),
    });
    filled(&format!("{op}: {}(", word(&call.name)), args, ")", indent)
}

/// What the table says of a call's parameters; nothing of a call that it has not.
pub(super) fn parameters(name: &str) -> &'static [aclnn::Parameter] {
    aclnn::function(name).map_or(&[], |function| &function.parameters)
}

/// How the buffers of a part are called.
struct Names<'a> {
    buffers: &'a [PlanBuffer],
    /// The first buffer of each name.
    first: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn of(part: &'a PlanPart) -> Names<'a> {
        let named = part.buffers.iter().enumerate().rev();
        Names { buffers: &part.buffers, first: named.map(|(i, buffer)| (&buffer.name[..], i)).collect() }
    }

    /// `%name`, or `#7` where the name says something else.
    fn buffer(&self, index: usize) -> String {
        let name = self.buffers.get(index).map(|buffer| &buffer.name[..]);
        match name.filter(|name| self.first.get(name) == Some(&index)) {
            Some(name) => format!("%{}", word(name)),
            None => format!("#{index}"),
        }
    }

    fn tensor(&self, tensor: &AclTensor) -> String {
        let AclTensor { buffer, base, dtype, storage, offset, dims, strides } = tensor;
        let mut text = self.buffer(*buffer);
        if *base != Sum::default() {
            let _ = write!(text, "+{base}");
        }
        let _ = write!(text, ":{dtype}[{}]", joined(dims));
        if *offset != Sum::default() {
            let _ = write!(text, " at {offset}");
        }
        if implied_strides(dims, storage).as_ref() != Some(strides) {
            let _ = write!(text, " strides [{}]", joined(strides));
        }
        if storage != dims {
            let _ = write!(text, " of [{}]", joined(storage));
        }
        text
    }

    fn arg(&self, arg: &Arg) -> String {
        match arg {
            Arg::Tensor(tensor) => self.tensor(tensor),
            Arg::Absent => "none".to_owned(),
            Arg::Scalar(Scalar::Number(number), dtype) => format!("{dtype}({})", real(*number)),
            Arg::Scalar(Scalar::Count(count), dtype) => format!("{dtype}({count})"),
            Arg::Ints(ints) => format!("[{}]", joined(ints)),
            Arg::Tensors(tensors) => {
                let tensors: Vec<String> = tensors.iter().map(|tensor| self.tensor(tensor)).collect();
                format!("list({})", tensors.join(", "))
            }
            Arg::Int(int) => int.to_string(),
            Arg::Real(number) => real(*number),
            Arg::Flag(flag) => flag.to_string(),
            Arg::Text(text) => quoted(text),
            Arg::Type(dtype) => dtype.to_string(),
            Arg::Group(name) => format!("@{}", word(name)),
        }
    }
}

/// The strides that a tensor has when it says none: its storage's, or its own dims' where those are not as many. `None` where
/// multiplying them out would take long.
pub(super) fn implied_strides(dims: &[Sum], storage: &[Sum]) -> Option<Vec<Sum>> {
    let of = if storage.len() == dims.len() { storage } else { dims };
    let terms = of.iter().fold(1, |terms: usize, dim| terms.saturating_mul(dim.terms().max(1)));
    let whole = || AclTensor::whole(0, Sum::default(), AclType::F32, of.to_vec());
    (terms <= TERMS_MOST).then(|| whole().strides)
}

/// A number that is read as one with a point: whole ones are written `1.0`, what is not finite with its sign.
fn real(number: f64) -> String {
    match number {
        number if number.is_nan() => "+nan".to_owned(),
        number if number.is_infinite() => if number > 0.0 { "+inf" } else { "-inf" }.to_owned(),
        number => format!("{number:?}"), // the shortest decimal that reads back as the same
    }
}

/// A name, in quotes where it is not a plain one.
fn word(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { quoted(name) }
}

/// Whether a name stands without quotes.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && name.chars().all(is_of_name)
}

/// What names without quotes are made of.
pub(super) fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn joined<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<String>>().join(", ")
}

/// `pp=2, mp=4`
fn sizes(sizes: &[(String, u64)]) -> String {
    sizes.iter().map(|(name, size)| format!("{}={size}", word(name))).collect::<Vec<String>>().join(", ")
}

/// Items on one line, or filling lines of their own where that would be too long.
fn filled(open: &str, items: impl IntoIterator<Item = String>, close: &str, indent: usize) -> String {
    let items: Vec<String> = items.into_iter().collect();
    let line = format!("{open}{}{close}", items.join(", "));
    if indent + line.len() <= WIDTH || items.is_empty() {
        return line;
    }
    let inner = indent + 4;
    let (mut text, mut column) = (open.to_owned(), WIDTH);
    for item in items {
        if column + item.len() + 2 > WIDTH {
            let _ = write!(text, "\n{:inner$}", "");
            column = inner;
        } else {
            text.push(' ');
            column += 1;
        }
        column += item.len() + 1;
        text += &item;
        text.push(',');
    }
    let _ = write!(text, "\n{:indent$}{close}", "");
    text
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::{Arena, ArenaSize};
    use super::*;
    use bloomery_ir::Mesh;
    use bloomery_ir::ascend::Chip;

    fn sum(text: &str) -> Sum {
        text.parse().unwrap()
    }

    fn tensor(buffer: usize, dims: &str) -> AclTensor {
        let dims = dims.split_whitespace().map(sum).collect();
        AclTensor::whole(buffer, Sum::default(), AclType::F16, dims)
    }

    fn call(name: &str, args: Vec<Arg>) -> Step {
        Step::Call(Call { name: name.to_owned(), args, op: "op".to_owned() })
    }

    /// Every variant of `Step`, `Arg`, `Over` and `Content`.
    fn plan() -> CallPlan {
        let content =
            [Content::Parameter, Content::State, Content::Io, Content::Scratch, distances(Some("mp")), distances(None)];
        let buffer = |(i, content): (usize, Content)| PlanBuffer {
            name: ["h.0.w", "kv", "ids", "a b", "table", "kv"][i].to_owned(),
            arena: Arena::ALL[i],
            offset: 64 * i as u64,
            bytes: 4096,
            layers: 1 + i as u64 % 2,
            content,
        };
        let part = PlanPart {
            stages: 0..2,
            layers: 12,
            arenas: Arena::ALL.map(|arena| ArenaSize { arena, bytes: 1 << 20 }).to_vec(),
            buffers: content.into_iter().enumerate().map(buffer).collect(),
            entries: vec![PlanEntry {
                name: "body_2_512".to_owned(),
                group: "body".to_owned(),
                rows: "N".to_owned(),
                least: 2,
                most: 512,
                bounds: vec![("N".to_owned(), 512), ("C".to_owned(), 4)],
                steps: steps(),
            }],
        };
        CallPlan {
            model: "a model".to_owned(),
            chip: Chip::A910,
            soc: vec!["Ascend910A".to_owned()],
            cann: "8.0.RC1".to_owned(),
            symbols: (0..30).map(|i| format!("aclnnCall{i}")).collect(),
            mesh: Mesh { axes: vec![("pp".to_owned(), 2), ("mp".to_owned(), 2)] },
            replicas: 2,
            communicators: vec![
                Communicator { name: "mp".to_owned(), groups: vec![vec![0, 1], vec![2, 3]] },
                Communicator { name: "world".to_owned(), groups: vec![vec![], (0..64).collect(), vec![7]] },
            ],
            parts: vec![part.clone(), PlanPart { stages: 2..3, buffers: vec![], entries: vec![], ..part }],
        }
    }

    fn distances(over: Option<&str>) -> Content {
        let slopes = vec![0.5, 0.25, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e-300, 65504.0];
        let over = over.map(str::to_owned);
        Content::Distances { slopes, over, heads: 4, rows: 128, reach: 2048, dtype: AclType::F32 }
    }

    fn steps() -> Vec<Step> {
        let kv = AclTensor::whole(1, sum("64*layer"), AclType::F16, ["C", "2", "4", "16", "8"].map(sum).to_vec());
        let keys = kv.entry(&sum("page")).entry(&sum("1")).narrowed(1, &sum("first"), &sum("length"));
        let args = vec![
            tensor(0, "N 8").transposed().into(),
            Arg::Absent,
            Arg::Scalar(Scalar::Number(2.0), AclType::F32),
            Arg::Scalar(Scalar::Count(sum("inf*N")), AclType::I64),
            Arg::Scalar(Scalar::Count(sum("2")), AclType::I32),
            Arg::Ints(vec![sum("N"), sum("1"), sum("8*from+8*start")]),
            Arg::Ints(vec![]),
            Arg::Tensors(vec![keys.clone(), keys.repeated(&sum("2"))]),
            Arg::Tensors(vec![]),
            Arg::Int(i64::MIN),
            Arg::Real(1e-5),
            Arg::Real(f64::NEG_INFINITY),
            Arg::Flag(true),
            Arg::Text("BN\"SD\\\n//".to_owned()),
            Arg::Type(AclType::BF16),
            Arg::Group("mp".to_owned()),
            // A buffer of a name that is taken, one of no name, and one that is none.
            tensor(5, "").into(),
            tensor(3, "N").into(),
            tensor(77, "1").into(),
        ];
        let exchange = |(_, what), to| Step::Exchange { what, among: "mp".to_owned(), from: tensor(0, "N 8"), to };
        let blocks = Step::Loop { over: Over::Blocks { rows: 128, reach: 2048 }, steps: vec![] };
        let sequences = Step::Loop { over: Over::Sequences, steps: vec![blocks, call("aclnnUnknown", args)] };
        let mut steps = vec![
            Step::FromHost { to: tensor(2, "N") },
            Step::Call(Call { name: "x y".to_owned(), args: vec![], op: "of".to_owned() }),
            Step::Loop { over: Over::Layers { from: 0, to: 12 }, steps: vec![sequences] },
            call("aclnnGelu", vec![tensor(0, "N 8").into(), tensor(3, "N 8").into(), Arg::Flag(false)]),
            Step::Copy { from: tensor(0, "N 8"), to: keys.reshaped(&["4", "length", "2", "4"].map(sum)).unwrap() },
            Step::Record(Event(3), Stream::Compute),
            Step::Wait(Event(u32::MAX), Stream::Transfer),
            Step::ToHost { from: tensor(2, "N") },
            Step::Fence(Stream::Transfer),
        ];
        steps.extend(EXCHANGES.map(|what| exchange(what, Some(tensor(3, "N 8")))));
        steps.extend(EXCHANGES.map(|what| exchange(what, None)));
        steps
    }

    #[test]
    fn reads_what_it_prints() {
        let (plan, text) = (plan(), print(&plan()));
        let read = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read, plan, "{text}");
        assert_eq!(print(&read), text);
        for line in [
            "plan \"a model\" for 910a",
            "communicator mp [0, 1] [2, 3]",
            "%h.0.w = weights+0, 4096 bytes, parameter",
            "for blocks of 128, reach 2048 {",
            "op: aclnnGelu(self=%h.0.w:f16[N, 8], out=%\"a b\":f16[N, 8], false)",
            "%kv+64*layer+2048*page+1024:f16[4, length, 8] at 8*first of [4, 16, 8]",
            "%h.0.w:f16[8, N] strides [1, 8] of [N, 8]",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn damaged_text_is_refused_or_read_as_what_it_says() {
        let text = print(&plan());
        for at in (0..text.len()).step_by(7) {
            let mangled = ["", "}", "\"", "9", "ä"].map(|piece| format!("{}{piece}{}", &text[..at], &text[at + 1..]));
            for mangled in mangled.iter().map(String::as_str).chain([&text[..at]]) {
                let Ok(read) = parse(mangled) else { continue };
                assert_eq!(parse(&print(&read)).as_ref(), Ok(&read), "{mangled}");
            }
        }
    }
}
