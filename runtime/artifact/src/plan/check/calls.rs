//! Calls against the table: name, arguments, chip, types.

use super::{PlanError, place, shapes};
use crate::plan::aclnn::{Function, Kind, Parameter, function};
use crate::plan::{CallPlan, PlanEntry, PlanPart};
use bloomery_ir::ascend::{AclTensor, AclType, Arg, Call, Chip, Scalar, Step};

/// Checks every call of an entry.
pub(super) fn check(plan: &CallPlan, part: &PlanPart, entry: &PlanEntry) -> Result<(), PlanError> {
    let mut found = Ok(());
    for step in &entry.steps {
        step.visit(&mut |step| {
            if let (Step::Call(call), Ok(())) = (step, &found) {
                found = one(plan, part, call).map_err(|what| PlanError { place: place(part, entry, step), what });
            }
        });
    }
    found
}

fn one(plan: &CallPlan, part: &PlanPart, call: &Call) -> Result<(), String> {
    let function = function(&call.name).ok_or("there is no such call in the table")?;
    if !function.on(plan.chip).is_there() || function.seen_in == "later" {
        return Err(format!("the {} does not have it: {}", plan.chip, function.evidence(plan.chip)));
    }
    if call.args.len() != function.parameters.len() {
        return Err(format!("it takes {} arguments, found {}", function.parameters.len(), call.args.len()));
    }
    for (arg, parameter) in call.args.iter().zip(&function.parameters) {
        kind(arg, parameter)?;
        if let Arg::Group(name) = arg {
            let known = plan.communicators.iter().any(|group| group.name == *name);
            if !known {
                return Err(format!("there is no communicator {name}"));
            }
        }
    }
    for tensor in call.args.iter().flat_map(Arg::tensors) {
        tensor_itself(plan.chip, part, tensor)?;
    }
    types(plan.chip, function, call)?;
    attributes(call)?;
    shapes::check(function, call)
}

fn kind(arg: &Arg, parameter: &Parameter) -> Result<(), String> {
    let fits = match (arg, parameter.kind) {
        (Arg::Absent, _) => parameter.is_optional(),
        (Arg::Tensor(_), Kind::Tensor)
        | (Arg::Scalar(..), Kind::Scalar)
        | (Arg::Ints(_), Kind::Ints)
        | (Arg::Tensors(_), Kind::Tensors)
        | (Arg::Real(_), Kind::Real)
        | (Arg::Flag(_), Kind::Flag)
        | (Arg::Text(_) | Arg::Group(_), Kind::Text)
        | (Arg::Type(_), Kind::Type) => true,
        (Arg::Int(value), Kind::Int) => fits(*value, parameter.c_type),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{} is a {}, found {arg:?}", parameter.name, parameter.c_type)) }
}

/// Whether an integer is one of that type of C.
fn fits(value: i64, c_type: &str) -> bool {
    match c_type {
        "int8_t" => i8::try_from(value).is_ok(),
        "int" | "int32_t" => i32::try_from(value).is_ok(),
        _ => true,
    }
}

fn tensor_itself(chip: Chip, part: &PlanPart, tensor: &AclTensor) -> Result<(), String> {
    let Some(buffer) = part.buffers.get(tensor.buffer) else {
        return Err(format!("it uses buffer {} of {}", tensor.buffer, part.buffers.len()));
    };
    if (chip, tensor.dtype) == (Chip::A910, AclType::BF16) {
        return Err(format!("%{} is bf16, which the 910a does not have", buffer.name));
    }
    Ok(())
}

/// The type that the kernel is chosen by, and that operands are of one type where calls want that.
fn types(chip: Chip, function: &Function, call: &Call) -> Result<(), String> {
    let tensors = |of: &dyn Fn(&Parameter) -> bool| -> Vec<AclType> {
        let args = call.args.iter().zip(&function.parameters).filter(|(_, parameter)| of(parameter));
        args.flat_map(|(arg, _)| arg.tensors()).map(|tensor| tensor.dtype).collect()
    };
    let (read, written) = (tensors(&|parameter| !parameter.is_output()), tensors(&Parameter::is_output));
    if let Some(first) = read.first() {
        if !function.on(chip).takes(*first) {
            return Err(format!("a first input of {first} has no kernel: {}", function.evidence(chip)));
        }
    }
    let alike = |types: &[AclType]| types.windows(2).all(|pair| pair[0] == pair[1]);
    let all = || [&read[..], &written[..]].concat();
    let ok = match &call.name[5..] {
        "Mm" | "BatchMatMul" | "MatmulAllReduce" => alike(&read) && product(chip, read[0], written[0]),
        "Add"
        | "Sub"
        | "Mul"
        | "Div"
        | "Neg"
        | "Tanh"
        | "Sqrt"
        | "Gelu"
        | "Exp"
        | "Softmax"
        | "Adds"
        | "Muls"
        | "Clamp"
        | "ReduceSum"
        | "Amax"
        | "Cat"
        | "InplaceAdd"
        | "PromptFlashAttentionV3"
        | "IncreFlashAttentionV4" => alike(&all()),
        "WeightQuantBatchMatmulV2" => {
            let narrow = matches!(read[0], AclType::F16 | AclType::BF16);
            narrow && read[1..] == [AclType::I8, read[0]] && written == [read[0]]
        }
        "LtScalar" | "GtScalar" => written == [AclType::Bool],
        "LogicalOr" => all().iter().all(|dtype| *dtype == AclType::Bool),
        "Embedding" => read[1] == AclType::I32 && written == [read[0]],
        "LayerNorm" => {
            written == [read[0]] && read[1..].iter().all(|dtype| *dtype == AclType::F32 || *dtype == read[0])
        }
        "InplaceMaskedFillScalar" => read[1] == AclType::Bool,
        "ArgMax" => written.iter().all(|dtype| matches!(dtype, AclType::I32 | AclType::I64)),
        "Cast" => matches!(call.args[1], Arg::Type(dtype) if written == [dtype]),
        _ => true,
    };
    if ok { Ok(()) } else { Err(format!("operands of {read:?} and results of {written:?} do not go together")) }
}

/// Numbers and words that choose what a call does: those whose meaning is known here.
fn attributes(call: &Call) -> Result<(), String> {
    let finite = |arg: &Arg| match arg {
        Arg::Scalar(Scalar::Number(value), _) | Arg::Real(value) => value.is_finite(),
        _ => true,
    };
    if !call.args.iter().all(finite) {
        return Err("its numbers are finite: the first generation knows no others".to_owned());
    }
    let heads = || call.args[0].tensors().first().and_then(|q| q.dims.get(1)?.as_number()).map(|n| n as i64);
    let is = |i: usize, allowed: &[i64]| matches!(call.args[i], Arg::Int(value) if allowed.contains(&value));
    let says = |i: usize, word: &str| matches!(&call.args[i], Arg::Text(text) if text == word);
    let all = |i: usize| is(i, &[i64::from(i32::MAX)]);
    let ok = match &call.name[5..] {
        // Types are kept, or made narrower where the unit wants that.
        "Mm" | "BatchMatMul" => is(3, &[0, 1, 2]),
        "MatmulAllReduce" => matches!(call.args[3], Arg::Group(_)) && says(4, "sum") && is(5, &[0]) && is(6, &[1]),
        "WeightQuantBatchMatmulV2" => is(7, &[0]),
        "Softmax" => is(1, &[-1]),
        "ArgMax" => is(1, &[-1]) && call.args[2] == Arg::Flag(false),
        "ReduceSum" | "Amax" => call.args[2] == Arg::Flag(false),
        "PromptFlashAttentionV3" => {
            let heads = heads().is_some_and(|heads| is(12, &[heads]) && is(17, &[heads]));
            heads && all(14) && all(15) && says(16, "BNSD") && is(18, &[0]) && is(19, &[0])
        }
        "IncreFlashAttentionV4" => {
            let heads = heads().is_some_and(|heads| is(15, &[heads]) && is(18, &[heads]));
            heads && says(17, "BNSD") && is(19, &[0]) && is(20, &[0])
        }
        _ => true,
    };
    if ok { Ok(()) } else { Err("one of its attributes is none that a plan has".to_owned()) }
}

/// The unit takes 16-bit numbers; the first generation stores f32 if asked, the second multiplies f32 too.
fn product(chip: Chip, factor: AclType, sum: AclType) -> bool {
    match chip {
        Chip::A910 => factor == AclType::F16 && matches!(sum, AclType::F16 | AclType::F32),
        Chip::B910 => factor.is_float() && sum == factor,
    }
}
