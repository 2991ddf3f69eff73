//! An entry as a C++ function: its steps in order, loops as loops, names as variables.

use super::words::{Unique, c_type, comment, constant, dims, hccl_type, identifier, int, real, scalar, sum, text};
use bloomery_artifact::plan::{PlanEntry, aclnn};
use bloomery_ir::ascend::{AclTensor, Arg, Call, Event, Exchange, Over, Scalar, Step, Stream, Sum};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Columns that lines fill.
const WIDTH: usize = 118;

/// Numbers that have a name where they stand, by parameter.
pub(super) const NAMED: &[(&str, i64, &str)] = &[
    ("cubeMathType", 0, "KEEP_DTYPE"),
    ("cubeMathType", 1, "ALLOW_FP32_DOWN_PRECISION"),
    ("cubeMathType", 2, "USE_FP16"),
    ("cubeMathType", 3, "USE_HF32"),
    ("approximate", 0, "GELU_ERF"),
    ("approximate", 1, "GELU_TANH"),
    ("reduction", 0, "REDUCTION_NONE"),
    ("reduction", 1, "REDUCTION_MEAN"),
    ("reduction", 2, "REDUCTION_SUM"),
    ("innerPrecise", 0, "HIGH_PRECISION"),
];

/// What functions of a part know.
pub(super) struct Scope<'a> {
    /// How buffers are called.
    pub(super) buffers: &'a [String],
    /// Axes of the mesh.
    pub(super) axes: &'a [String],
    /// Ranks of a stage.
    pub(super) ranks_per_stage: u64,
}

/// The function of an entry.
pub(super) fn function(name: &str, entry: &PlanEntry, scope: &Scope<'_>) -> String {
    let names = free_names(&entry.steps);
    let sizes = names.iter().any(|name| !scope.axes.contains(name)) || goes_over_sequences(&entry.steps);
    let parameter = if sizes { " n" } else { "" };
    let device = if entry.steps.is_empty() { "" } else { "d" };
    let mut writer = Writer { scope, names: all_names(&entry.steps), text: String::new(), indent: 1 };
    for name in &names {
        let from = if scope.axes.contains(name) {
            format!("d.place[{}]", constant("AXIS", name))
        } else {
            format!("n.{}", identifier(name))
        };
        writer.line(&format!("const int64_t {} = {from};", identifier(name)));
    }
    writer.steps(&entry.steps);
    writer.line("return 0;");
    let rows = format!("{} {}..{}", entry.rows, entry.least, entry.most);
    let about = comment(&format!("`{}`, {rows}", entry.group));
    format!(
        "// {about}\nstatic int {name}(Device &{device}, const Sizes &{}) {{\n{}}}\n",
        parameter.trim(),
        writer.text
    )
}

/// Names that steps use and loops around them do not give: they come with a call.
pub(super) fn free_names(steps: &[Step]) -> BTreeSet<String> {
    steps.iter().flat_map(free_names_of).collect()
}

fn free_names_of(step: &Step) -> BTreeSet<String> {
    let Step::Loop { over, steps } = step else { return own_names(step) };
    let mut names = free_names(steps);
    match over {
        Over::Layers { .. } => _ = names.remove("layer"),
        Over::Sequences => SEQUENCE.iter().for_each(|name| _ = names.remove(*name)),
        Over::Blocks { .. } => {
            let sees = names.contains("context") || names.contains("ahead");
            ["from", "rows", "context", "ahead"].iter().for_each(|name| _ = names.remove(*name));
            names.insert("length".to_owned());
            if sees {
                names.insert("first".to_owned());
            }
        }
    }
    names
}

/// What a loop over sequences gives.
const SEQUENCE: [&str; 4] = ["start", "length", "first", "page"];

/// Names in the sums of a step itself.
fn own_names(step: &Step) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut step = step.clone();
    step.change_tensors(&mut |tensor| {
        let of_dims = tensor.dims.iter().chain(&tensor.strides).chain(&tensor.storage);
        let sums = of_dims.chain([&tensor.base, &tensor.offset]);
        names.extend(sums.flat_map(Sum::names).map(str::to_owned));
    });
    if let Step::Call(call) = &step {
        for arg in &call.args {
            match arg {
                Arg::Ints(ints) => names.extend(ints.iter().flat_map(Sum::names).map(str::to_owned)),
                Arg::Scalar(Scalar::Count(count), _) => names.extend(count.names().map(str::to_owned)),
                _ => {}
            }
        }
    }
    names
}

/// Every name that steps use, given by loops or not.
fn all_names(steps: &[Step]) -> BTreeSet<String> {
    let inside = |step: &Step| match step {
        Step::Loop { steps, .. } => all_names(steps),
        step => own_names(step),
    };
    let loops = SEQUENCE.into_iter().chain(["layer", "from", "rows", "context", "ahead"]).map(str::to_owned);
    steps.iter().flat_map(inside).map(|name| identifier(&name)).chain(loops).collect()
}

fn goes_over_sequences(steps: &[Step]) -> bool {
    let goes =
        |step: &Step| matches!(step, Step::Loop { over: Over::Sequences, .. }) || goes_over_sequences(step.inside());
    steps.iter().any(goes)
}

struct Writer<'a> {
    scope: &'a Scope<'a>,
    /// Names that mean something where calls are made: locals are called otherwise.
    names: BTreeSet<String>,
    text: String,
    indent: usize,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{:width$}{line}", "", width = self.indent * 4);
    }

    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Call(call) => self.call(call),
            Step::Loop { over, steps } => self.repeated(*over, steps),
            Step::Exchange { what, among, from, to } => self.exchange(*what, among, from, to.as_ref()),
            Step::Copy { from, to } => {
                self.copy(&self.at(to), &self.at(from), from, "ACL_MEMCPY_DEVICE_TO_DEVICE", Stream::Compute);
            }
            Step::FromHost { to } => {
                self.copy(&self.at(to), &self.host(to), to, "ACL_MEMCPY_HOST_TO_DEVICE", Stream::Compute);
            }
            Step::ToHost { from } => {
                self.copy(&self.host(from), &self.at(from), from, "ACL_MEMCPY_DEVICE_TO_HOST", Stream::Transfer);
            }
            Step::Record(Event(event), on) => {
                self.line(&format!("TRY(aclrtRecordEvent(d.events[{event}], {}));", stream(*on)));
            }
            Step::Wait(Event(event), on) => {
                self.line(&format!("TRY(aclrtStreamWaitEvent({}, d.events[{event}]));", stream(*on)));
            }
            Step::Fence(on) => self.line(&format!("TRY(aclrtSynchronizeStream({}));", stream(*on))),
        }
    }

    fn repeated(&mut self, over: Over, steps: &[Step]) {
        let used = free_names(steps);
        match over {
            Over::Layers { from, to } => {
                self.line(&format!("for (int64_t layer = {from}; layer < {to}; ++layer) {{"));
            }
            Over::Sequences => {
                let unused = if SEQUENCE.iter().any(|name| used.contains(*name)) { "" } else { "[[maybe_unused]] " };
                self.line(&format!("for ({unused}const Sequence &sequence : n.sequences) {{"));
            }
            Over::Blocks { rows, .. } => {
                self.line(&format!("for (int64_t from = 0; from < length; from += {rows}) {{"));
            }
        }
        self.indent += 1;
        self.names_of(over, &used);
        self.steps(steps);
        self.indent -= 1;
        self.line("}");
    }

    /// What a loop gives, as far as it is used.
    fn names_of(&mut self, over: Over, used: &BTreeSet<String>) {
        let sees = used.contains("context") || used.contains("ahead");
        match over {
            Over::Layers { .. } => {}
            Over::Sequences => {
                for name in SEQUENCE.iter().filter(|name| used.contains(**name)) {
                    self.line(&format!("const int64_t {name} = sequence.{name};"));
                }
            }
            Over::Blocks { rows, reach } => {
                if sees || used.contains("rows") {
                    self.line(&format!("const int64_t rows = std::min<int64_t>({rows}, length - from);"));
                }
                if sees {
                    self.line("const int64_t context = first + from + rows;");
                }
                if used.contains("ahead") {
                    self.line(&format!("const int64_t ahead = {reach} - context;"));
                }
            }
        }
    }

    /// Its arguments as objects, and both phases.
    fn call(&mut self, call: &Call) {
        let parameters = aclnn::function(&call.name).map_or(&[][..], |function| &function.parameters);
        let shapes = shapes(call, parameters);
        self.line(&format!("{{  // {}", comment(&format!("{}: {shapes}", call.op))));
        self.indent += 1;
        let mut names = Unique::beside(&self.names);
        let mut args = vec![call.name.clone()];
        for (i, arg) in call.args.iter().enumerate() {
            let name = parameters.get(i).map_or_else(|| format!("argument_{}", i + 1), |p| p.name.to_owned());
            args.push(self.arg(&name, arg, &mut names));
        }
        self.invocation("CALL(", &args, ");");
        self.indent -= 1;
        self.line("}");
    }

    /// `CALL(aclnnGelu, self, out);`, in several lines where it is long.
    fn invocation(&mut self, open: &str, args: &[String], close: &str) {
        let mut line = open.to_owned();
        for (i, arg) in args.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if i > 0 && self.indent * 4 + line.len() + arg.len() + 4 > WIDTH {
                self.line(&(line + comma));
                line = " ".repeat(4) + arg;
            } else {
                line += if i == 0 { "" } else { ", " };
                line += arg;
            }
        }
        self.line(&(line + close));
    }

    /// Makes what an argument needs; returns how it is given.
    fn arg(&mut self, parameter: &str, arg: &Arg, names: &mut Unique) -> String {
        let told = |value: String| format!("/* {parameter} */ {value}");
        match arg {
            Arg::Tensor(tensor) => {
                let name = names.name(parameter);
                self.invocation(&format!("const Tensor {name}("), &self.tensor(tensor), ");");
                name
            }
            Arg::Scalar(value, dtype) => {
                let name = names.name(parameter);
                // A count of a 16-bit type is given as f32, which holds it better; the call casts.
                let (value, dtype) = match value {
                    Scalar::Number(number) => (scalar(*number, *dtype), dtype.c_name()),
                    Scalar::Count(count) if dtype.is_float() => (format!("float({})", sum(count)), "ACL_FLOAT"),
                    Scalar::Count(count) => (format!("{}({})", c_type(*dtype), sum(count)), dtype.c_name()),
                };
                self.line(&format!("const Scalar {name}({value}, {dtype});"));
                name
            }
            Arg::Ints(ints) => {
                let name = names.name(parameter);
                self.line(&format!("const Ints {name}(Dims{});", dims(ints)));
                name
            }
            Arg::Tensors(tensors) => self.list(parameter, tensors, names),
            Arg::Absent => told("nullptr".to_owned()),
            Arg::Int(number) => match named(parameter, *number) {
                Some(name) => name.to_owned(),
                None => told(int(*number)),
            },
            Arg::Real(number) => told(real(*number)),
            Arg::Flag(flag) => told(flag.to_string()),
            Arg::Text(value) => told(text(value)),
            Arg::Type(dtype) => dtype.c_name().to_owned(),
            Arg::Group(name) => format!("d.groups[{}].data()", constant("COMM", name)),
        }
    }

    fn list(&mut self, parameter: &str, tensors: &[AclTensor], names: &mut Unique) -> String {
        let list = names.name(parameter);
        let mut owned = vec![];
        for (i, tensor) in tensors.iter().enumerate() {
            let name = names.name(&format!("{parameter}_{i}"));
            self.invocation(&format!("Tensor {name}("), &self.tensor(tensor), ");");
            owned.push(format!("{name}.release()"));
        }
        self.line(&format!("const Tensors {list}(std::vector<const aclTensor *>{{{}}});", owned.join(", ")));
        list
    }

    /// What makes a tensor: `d, memory::a0, 0, ACL_FLOAT, {N, 4096}`, and what else a view has.
    fn tensor(&self, tensor: &AclTensor) -> Vec<String> {
        let AclTensor { buffer, base, dtype, storage, offset, dims: own, strides } = tensor;
        let mut args = vec!["d".to_owned(), self.buffer(*buffer), sum(base), dtype.c_name().to_owned(), dims(own)];
        if AclTensor::whole(*buffer, base.clone(), *dtype, own.clone()) != *tensor {
            args.push(format!("/* strides */ {}", dims(strides)));
            args.push(format!("/* offset */ {}", sum(offset)));
            args.push(format!("/* of */ {}", dims(storage)));
        }
        args
    }

    fn buffer(&self, buffer: usize) -> String {
        let name = self.scope.buffers.get(buffer).cloned().unwrap_or_else(|| format!("none_{buffer}"));
        format!("memory::{name}")
    }

    /// Where the elements of a tensor without gaps begin.
    fn at(&self, tensor: &AclTensor) -> String {
        match bytes_before(tensor) {
            before if before.as_number() == Some(0) => format!("d.at({})", self.buffer(tensor.buffer)),
            before => format!("d.at({}, {})", self.buffer(tensor.buffer), sum(&before)),
        }
    }

    fn host(&self, tensor: &AclTensor) -> String {
        let host = format!("d.host.at(&{})", self.buffer(tensor.buffer));
        match bytes_before(tensor) {
            before if before.as_number() == Some(0) => host,
            before => format!("{host} + {}", sum(&before)),
        }
    }

    fn copy(&mut self, to: &str, from: &str, what: &AclTensor, kind: &str, on: Stream) {
        let bytes = what.elements().times(&Sum::number(what.dtype.bytes()));
        self.line(&format!("{{  // {}", shape(what)));
        self.indent += 1;
        self.line(&format!("const size_t bytes = static_cast<size_t>({});", sum(&bytes)));
        self.invocation(
            "TRY(aclrtMemcpyAsync(",
            &[to, "bytes", from, "bytes", kind, stream(on)].map(str::to_owned),
            "));",
        );
        self.indent -= 1;
        self.line("}");
    }

    fn exchange(&mut self, what: Exchange, among: &str, from: &AclTensor, to: Option<&AclTensor>) {
        let to = to.unwrap_or(from);
        let (given, got) = (self.at(from), self.at(to));
        let (count, dtype) = (elements(from), hccl_type(from.dtype).to_owned());
        let comm = [format!("d.comms[{}]", constant("COMM", among)), "d.compute".to_owned()];
        let (sum, ranks) = ("HCCL_REDUCE_SUM".to_owned(), self.scope.ranks_per_stage);
        let (name, args) = match what {
            Exchange::AllReduce => ("HcclAllReduce", vec![given, got, count, dtype, sum]),
            Exchange::AllGather => ("HcclAllGather", vec![given, got, count, dtype]),
            Exchange::ReduceScatter => ("HcclReduceScatter", vec![given, got, elements(to), dtype, sum]),
            Exchange::Send => ("HcclSend", vec![given, count, dtype, format!("d.rank + {ranks}")]),
            Exchange::Receive => ("HcclRecv", vec![given, count, dtype, format!("d.rank - {ranks}")]),
        };
        self.line(&format!("// {}", shapes_of(what, from, to)));
        let args: Vec<String> = args.into_iter().chain(comm).collect();
        self.invocation(&format!("TRY({name}("), &args, "));");
    }
}

/// How many elements, as a count of HCCL's.
fn elements(tensor: &AclTensor) -> String {
    format!("static_cast<uint64_t>({})", sum(&tensor.elements()))
}

/// From the buffer's start to the first element.
fn bytes_before(tensor: &AclTensor) -> Sum {
    tensor.base.plus(&tensor.offset.times(&Sum::number(tensor.dtype.bytes())))
}

fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Compute => "d.compute",
        Stream::Transfer => "d.transfer",
    }
}

/// The name of a parameter's number.
pub(super) fn named(parameter: &str, number: i64) -> Option<&'static str> {
    NAMED.iter().find(|(of, value, _)| *of == parameter && *value == number).map(|(.., name)| *name)
}

/// `f32[N, 4096]`
fn shape(tensor: &AclTensor) -> String {
    format!("{}[{}]", tensor.dtype, tensor.dims.iter().map(Sum::to_string).collect::<Vec<String>>().join(", "))
}

fn shapes_of(what: Exchange, from: &AclTensor, to: &AclTensor) -> String {
    match what {
        Exchange::Send => format!("to the next stage: {}", shape(from)),
        Exchange::Receive => format!("from the stage before: {}", shape(from)),
        _ => format!("{} -> {}", shape(from), shape(to)),
    }
}

/// `f16[N, 4096], f16[4096, 1024] -> f32[N, 1024]`; without an arrow where a call only changes what it is given.
fn shapes(call: &Call, parameters: &[aclnn::Parameter]) -> String {
    let shapes = |written: bool| {
        let side =
            call.args.iter().enumerate().filter(|(i, _)| parameters.get(*i).is_some_and(|p| p.is_output()) == written);
        side.flat_map(|(_, arg)| arg.tensors()).map(shape).collect::<Vec<String>>().join(", ")
    };
    let (read, written) = (shapes(false), shapes(true));
    match (&read[..], &written[..]) {
        (_, "") => read,
        ("", _) => written,
        _ => format!("{read} -> {written}"),
    }
}
