//! Calls against the table: name, arguments, chip, types.

use super::{PlanError, place, shapes, visit};
use crate::plan::aclnn::{Function, Kind, Parameter, function};
use crate::plan::{CallPlan, PlanEntry, PlanPart};
use bloomery_ir::ascend::{AclTensor, AclType, Arg, Call, Chip, Step};

/// Checks every call of an entry.
pub(super) fn check(plan: &CallPlan, part: &PlanPart, entry: &PlanEntry) -> Result<(), PlanError> {
    let mut found = Ok(());
    for step in &entry.steps {
        visit(step, &mut |step| {
            if let (Step::Call(call), Ok(())) = (step, &found) {
                found = one(plan, part, call).map_err(|what| PlanError { place: place(part, entry, step), what });
            }
        });
    }
    found
}

fn one(plan: &CallPlan, part: &PlanPart, call: &Call) -> Result<(), String> {
    let function = function(&call.name).ok_or("there is no such call in the table")?;
    if !function.on(plan.chip).is_there() {
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
    shapes::check(plan.chip, function, call)
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

/// The unit takes 16-bit numbers; the first generation stores f32 if asked, the second multiplies f32 too.
fn product(chip: Chip, factor: AclType, sum: AclType) -> bool {
    match chip {
        Chip::A910 => factor == AclType::F16 && matches!(sum, AclType::F16 | AclType::F32),
        Chip::B910 => factor.is_float() && sum == factor,
    }
}
