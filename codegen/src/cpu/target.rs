//! What passes ask of this target: which graphs make one kernel, and what they cost.

use super::gemm::FEW;
use super::layouts;
use super::recognise::recognise;
use super::spec::Spec;
use bloomery_ir::op::elements;
use bloomery_ir::ops::cast::Cast;
use bloomery_ir::target::{Refusal, Target};
use bloomery_ir::{Bindings, DType, Graph, Op, TensorType, ValueId};

/// Tokens in a page of the cache.
const PAGE_TOKENS: u64 = 64;

/// A core of an ordinary server: nanoseconds for a step of a loop over kernels, operations and bytes in a nanosecond.
const LAUNCH: f64 = 500.0;
const FLOP_PER_NANOSECOND: f64 = 60.0;
const FLOP_PER_NANOSECOND_LOOPS: f64 = 1.0;
const BYTES_PER_NANOSECOND: f64 = 10.0;

/// Whether a value is another one rounded to bf16, widened again or not.
fn is_rounding(kernel: &Graph, value: ValueId) -> bool {
    let definitions = kernel.definitions();
    let Some(node) = definitions[value.index()].map(|i| &kernel.nodes[i]) else { return false };
    match &node.op {
        Op::Cast(Cast { to: DType::BF16 }) => true,
        Op::Cast(_) | Op::Reshape(_) => is_rounding(kernel, node.operands[0]),
        _ => false,
    }
}

/// CPUs of every class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Target for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn activation(&self) -> DType {
        DType::F32
    }

    fn page_tokens(&self) -> u64 {
        PAGE_TOKENS
    }

    fn row_ranges(&self, most: u64) -> Vec<(u64, u64)> {
        let few = FEW as u64;
        let ranges = [(1, 1), (2, few), (few + 1, u64::MAX)];
        ranges.into_iter().filter(|(least, _)| *least <= most).map(|(least, top)| (least, top.min(most))).collect()
    }

    fn cost(&self, kernel: &Graph) -> Result<f64, Refusal> {
        let spec = recognise(kernel, &layouts::inputs(kernel), &kernel.symbols)?;
        if matches!(spec, Spec::Gemm(_)) && kernel.outputs.iter().any(|output| is_rounding(kernel, *output)) {
            return Err(Refusal("rows are rounded to bf16 by the product that takes them".into()));
        }
        let most: Bindings = kernel.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
        let flop = kernel.nodes.iter().map(|node| {
            let flops = node.op.def().flops(&kernel.types_of(&node.operands), &kernel.types_of(&node.results));
            flops.eval(&most).unwrap_or(0) as f64
        });
        let size = |ty: &TensorType| elements(ty).eval(&most).unwrap_or(0) as f64 * ty.dtype.bits() as f64 / 8.0;
        // Of a table, only the rows asked for are read.
        let inputs = kernel.inputs.iter().enumerate().map(|(i, input)| match &spec {
            Spec::Gather(gather) if gather.table.view == i => 0.0,
            _ => size(&input.ty),
        });
        let bytes = inputs.sum::<f64>() + kernel.outputs.iter().map(|output| size(kernel.ty(*output))).sum::<f64>();
        let rate = if matches!(spec, Spec::Loops(_)) { FLOP_PER_NANOSECOND_LOOPS } else { FLOP_PER_NANOSECOND };
        Ok(LAUNCH + f64::max(flop.sum::<f64>() / rate, bytes / BYTES_PER_NANOSECOND))
    }
}
