//! One kernel: its operations' calls, one after another.

use bloomery_ir::ascend::{AclTensor, AclType, Chip, Lowering, Need, Operand, Step, Sum};
use bloomery_ir::graph::Role;
use bloomery_ir::target::Refusal;
use bloomery_ir::types::TensorType;
use bloomery_ir::{Bindings, Graph, ValueId};

/// The calls of a kernel.
pub(super) struct Calls {
    pub(super) steps: Vec<Step>,
    /// Buffers beside inputs and outputs, numbered from the number given.
    pub(super) needs: Vec<Need>,
    /// For each output, the view of inputs that it is, if nothing computes it.
    pub(super) views: Vec<Option<AclTensor>>,
}

/// How operation number `i` is lowered; `None` when there is no entry.
pub(super) type Entry<'a> = &'a dyn Fn(usize, &mut Lowering<'_>) -> Option<()>;

/// What a kernel is lowered for.
pub(super) struct Cx<'a> {
    pub(super) chip: Chip,
    /// Whether weights of products are kept in 8 bits.
    pub(super) int8: bool,
    /// Largest values of names.
    pub(super) most: &'a Bindings,
    /// Number of the first buffer that there is none of yet.
    pub(super) first: usize,
}

/// Lowers a kernel's graph with these inputs and outputs, by the entries in its operations' files.
///
/// # Errors
/// The operation that has no entry.
pub(super) fn calls(graph: &Graph, inputs: Vec<Operand>, outputs: &[AclTensor], cx: &Cx<'_>) -> Result<Calls, Refusal> {
    calls_by(graph, inputs, outputs, cx, &|i, io| graph.nodes[i].op.def().ascend(io))
}

/// The same, by other entries.
pub(super) fn calls_by(
    graph: &Graph,
    inputs: Vec<Operand>,
    outputs: &[AclTensor],
    cx: &Cx<'_>,
    entry: Entry<'_>,
) -> Result<Calls, Refusal> {
    let Cx { chip, int8, most, first } = *cx;
    let mut values: Vec<Option<Operand>> = vec![None; graph.types.len()];
    inputs.into_iter().enumerate().for_each(|(i, input)| values[i] = Some(input));
    let (mut steps, mut needs): (Vec<Step>, Vec<Need>) = (vec![], vec![]);
    let mut computed = vec![false; graph.types.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let before = needs.len();
        let mut results = vec![];
        for result in &node.results {
            results.push(result_tensor(graph, *result, outputs, &mut needs, first)?);
        }
        let operands = node.operands.iter().map(|value| values[value.index()].clone().expect("in order")).collect();
        let free = first + needs.len();
        let narrow = node.operands.iter().map(|value| int8 && is_weight(graph, *value)).collect();
        let io = Lowering::new(chip, node.op.name(), operands, results.clone(), most, free);
        let mut io = io.narrowing(narrow);
        entry(i, &mut io).ok_or_else(|| no_entry(graph, i, chip))?;
        let lowered = io.finish();
        // A result that is a view needs no memory.
        if lowered.views.iter().all(Option::is_some) && lowered.needs.is_empty() {
            needs.truncate(before);
        }
        steps.extend(lowered.steps);
        needs.extend(lowered.needs);
        for ((value, tensor), view) in node.results.iter().zip(results).zip(lowered.views) {
            computed[value.index()] = view.is_none();
            values[value.index()] = Some(Operand::Tensor(view.unwrap_or(tensor)));
        }
    }
    let view = |value: &ValueId| match &values[value.index()] {
        Some(Operand::Tensor(tensor)) if !computed[value.index()] => Some(tensor.clone()),
        _ => None,
    };
    let views = graph.outputs.iter().map(view).collect();
    Ok(Calls { steps, needs, views })
}

fn is_weight(graph: &Graph, value: ValueId) -> bool {
    graph.inputs.get(value.index()).is_some_and(|input| input.role == Role::Parameter)
}

fn no_entry(graph: &Graph, node: usize, chip: Chip) -> Refusal {
    let node = &graph.nodes[node];
    let types: Vec<String> = graph.types_of(&node.operands).iter().map(ToString::to_string).collect();
    Refusal(format!("`{}` has no entry for the {chip}, or not for {}", node.op.name(), types.join(", ")))
}

/// Where a result goes: to the kernel's output, or to a temporary.
fn result_tensor(
    graph: &Graph,
    value: ValueId,
    outputs: &[AclTensor],
    needs: &mut Vec<Need>,
    first: usize,
) -> Result<AclTensor, Refusal> {
    if let Some(i) = graph.outputs.iter().position(|output| *output == value) {
        return Ok(outputs[i].clone());
    }
    let (dtype, dims) = dtype_and_dims(graph.ty(value))?;
    needs.push(Need::Temporary(dtype, dims.clone()));
    Ok(AclTensor::whole(first + needs.len() - 1, Sum::default(), dtype, dims))
}

/// A type as calls have it.
///
/// # Errors
/// An element type that calls do not have.
pub(super) fn dtype_and_dims(ty: &TensorType) -> Result<(AclType, Vec<Sum>), Refusal> {
    let dtype = AclType::try_from(ty.dtype).map_err(|dtype| Refusal(format!("there are no tensors of {dtype}")))?;
    Ok((dtype, ty.extents().map(Sum::from).collect()))
}
