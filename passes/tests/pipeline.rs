//! A small model through all passes: the program equals the graph.
use bloomery_ir::graph::Graph;
use bloomery_ir::program::Interface;
use bloomery_ir::target::{Refusal, Target};
use bloomery_ir::types::DType;
use bloomery_passes::Context;
use bloomery_passes::pipeline::{Stage, run};

struct Simple;

impl Target for Simple {
    fn name(&self) -> &str {
        "simple"
    }
    fn activation(&self) -> DType {
        DType::F32
    }
    fn page_tokens(&self) -> u64 {
        16
    }
    fn row_ranges(&self, most: u64) -> Vec<(u64, u64)> {
        vec![(1, 1), (2, most)]
    }
    fn cost(&self, kernel: &Graph) -> Result<f64, Refusal> {
        let anchors = kernel.nodes.iter().filter(|node| node.op.def().expr().is_none()).count();
        if anchors > 1 { Err(Refusal(format!("{anchors} anchors"))) } else { Ok(1.0) }
    }
}

const TEXT: &str = "
graph @block<N: 1..8>(%x: f32[N, 8], param %up: f16[8, 32], param %bias: f16[32], param %down: f16[32, 8]) {
  %0 = matmul %x, %up : f32[N, 32]
  %1 = add %0, %bias : f32[N, 32]
  %2 = gelu %1 : f32[N, 32]
  %3 = matmul %2, %down : f32[N, 8]
  %4 = add %3, %x : f32[N, 8]
  return %4
}
graph @body<N: 1..8>(%ids: i32[N], param %table: f16[10, 8], param %up: f16[3, 8, 32], param %bias: f16[3, 32], param %down: f16[3, 32, 8]) {
  %0 = gather %table, %ids : f16[N, 8]
  %1 = cast %0 {to = f32} : f32[N, 8]
  %2 = repeat @block over layers 0..3 carry(%1) slice(%up, %bias, %down) : f32[N, 8]
  return %2
}";

#[test]
fn prints_a_program() {
    let module = bloomery_ir::parse(TEXT).unwrap();
    let entries = [Interface { graph: "body".into(), rows: "N".into(), outputs: vec!["hidden".into()] }];
    let cx = Context { target: &Simple, entries: &entries };
    let stage = run(module, &cx, None, &mut |_, _| {}).unwrap();
    let Stage::Program(program) = &stage else { panic!() };
    println!("{}", program.print());
}
