//! What passes ask of this target: which operations have entries, which go together, and what they cost.

use super::chips::facts;
use super::kernel::{Cx, calls, dtype_and_dims};
use bloomery_artifact::plan::padded;
use bloomery_ir::ascend::{AclTensor, Arg, Chip, Operand, Over, Step, Sum};
use bloomery_ir::graph::{Input, Role};
use bloomery_ir::target::{Refusal, Target};
use bloomery_ir::{Bindings, DType, Graph, Layout, Op, TensorType};

/// An Ascend chip. A sequence has one page of the cache, which holds the whole context.
#[derive(Clone, Copy, Debug)]
pub struct Ascend {
    /// Which.
    pub chip: Chip,
    /// Positions a sequence can have.
    pub context: u64,
}

/// What the host takes for the two phases of a call, in nanoseconds: an assumption that makes fewer calls better.
const CALL: f64 = 10_000.0;

impl Target for Ascend {
    fn name(&self) -> &str {
        match self.chip {
            Chip::A910 => "ascend:910a",
            Chip::B910 => "ascend:910b",
        }
    }

    /// f32 between products: the first generation's f16 ends at 65504, which BLOOM's residual stream comes near.
    fn activation(&self) -> DType {
        DType::F32
    }

    fn page_tokens(&self) -> u64 {
        self.context
    }

    /// As stored, row by row: products take the transposed view.
    fn weight_layout(&self, _: Vec<usize>) -> Layout {
        Layout::RowMajor
    }

    fn cache_layout(&self) -> Layout {
        Layout::RowMajor
    }

    fn buffer_bytes(&self, bytes: u64) -> u64 {
        padded(bytes)
    }

    /// Calls get their shapes when the plan runs; one row has calls of its own.
    fn row_ranges(&self, most: u64) -> Vec<(u64, u64)> {
        [(1, 1), (2, most)].into_iter().filter(|(least, top)| least <= top).collect()
    }

    fn cost(&self, kernel: &Graph) -> Result<f64, Refusal> {
        let work = kernel.nodes.iter().position(|node| !is_movement(&node.op));
        if work.is_some_and(|first| first + 1 != kernel.nodes.len()) {
            return Err(Refusal("a kernel is one operation, and views of what it reads".into()));
        }
        let most = most(kernel);
        let inputs = kernel.inputs.iter().enumerate().map(operand).collect::<Result<_, _>>()?;
        let outputs = kernel.outputs.iter().map(|value| kernel.ty(*value));
        let outputs: Vec<AclTensor> =
            outputs.enumerate().map(|(i, ty)| tensor(kernel.inputs.len() + i, ty)).collect::<Result<_, _>>()?;
        let first = kernel.inputs.len() + outputs.len();
        let cx = Cx { chip: self.chip, int8: false, most: &most, first };
        let calls = calls(kernel, inputs, &outputs, &cx)?;
        let facts = facts(self.chip);
        let flop: u64 = kernel.nodes.iter().filter_map(|node| flops(kernel, node, &most)).sum();
        Ok(CALL * count(&calls.steps) as f64
            + f64::max(flop as f64 / facts.cube.value, bytes(&calls.steps, &most) / facts.memory.value))
    }
}

/// Whether an operation only looks at its operand in another way.
fn is_movement(op: &Op) -> bool {
    matches!(op, Op::Slice(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Piece(_))
}

/// Largest values of a kernel's names, and of those that loops give values to: one sequence, one block.
fn most(kernel: &Graph) -> Bindings {
    let mut most: Bindings = kernel.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
    Over::NAMES.into_iter().for_each(|name| _ = most.insert(name.to_owned(), 1));
    most
}

/// An input of a kernel on its own: a tensor, or the rank's place where that is an `i32[1]`.
fn operand((i, input): (usize, &Input)) -> Result<Operand, Refusal> {
    let is_place = input.role == Role::Plain && input.ty == TensorType::new(DType::I32, [1]);
    Ok(if is_place { Operand::Place(Sum::default()) } else { Operand::Tensor(tensor(i, &input.ty)?) })
}

fn tensor(buffer: usize, ty: &TensorType) -> Result<AclTensor, Refusal> {
    let (dtype, dims) = dtype_and_dims(ty)?;
    Ok(AclTensor::whole(buffer, Sum::default(), dtype, dims))
}

fn flops(kernel: &Graph, node: &bloomery_ir::Node, most: &Bindings) -> Option<u64> {
    let types = |values| kernel.types_of(values);
    node.op.def().flops(&types(&node.operands), &types(&node.results)).eval(most).ok()
}

fn count(steps: &[Step]) -> usize {
    steps.iter().map(|step| if step.inside().is_empty() { 1 } else { count(step.inside()) }).sum()
}

/// Bytes of all tensors of all calls.
fn bytes(steps: &[Step], most: &Bindings) -> f64 {
    let of = |tensor: &AclTensor| tensor.elements().eval(most).unwrap_or(0) as f64 * tensor.dtype.bytes() as f64;
    let own = |step: &Step| match step {
        Step::Call(call) => call.args.iter().flat_map(Arg::tensors).map(of).sum(),
        step => bytes(step.inside(), most),
    };
    steps.iter().map(own).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_without_entry_are_named_with_the_chip() {
        let refused = |chip, text: &str| {
            let module = bloomery_ir::parse(text).unwrap();
            Ascend { chip, context: 64 }.cost(&module.graphs[0]).unwrap_err().to_string()
        };
        let text = "graph @k<N: 1..8>(%x: f32[N, 8]) {\n  %0 = exp %x : f32[N, 8]\n  return %0\n}\n";
        assert_eq!(refused(Chip::A910, text), "no kernel: `exp` has no entry for the 910a, or not for f32[N, 8]");
        let text = "graph @k<N: 1..8>(%x: f32[N, 8], param %w: bf16[8, 16]) {\n  %0 = matmul %x, %w : f32[N, 16]\n  return %0\n}\n";
        let expected = "no kernel: `matmul` has no entry for the 910a, or not for f32[N, 8], bf16[8, 16]";
        assert_eq!(refused(Chip::A910, text), expected);
    }
}
