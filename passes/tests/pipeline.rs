//! A small model through all passes: the program equals the graph.
use bloomery_ir::graph::Graph;
use bloomery_ir::program::{Interface, Parameter};
use bloomery_ir::run_program::ProgramInterpreter;
use bloomery_ir::target::{Refusal, Target};
use bloomery_ir::types::DType;
use bloomery_ir::{Bindings, Interpreter, Mesh, OwnMemory, Precision, Program, Tensor};
use bloomery_passes::pipeline::{Stage, run, run_named};
use bloomery_passes::{Context, Stages, Strategy, Unseen};

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
graph @block<N: 1..8>(%x: f32[N, 8], param %up: f16[8, ffn=32], param %bias: f16[ffn=32], param %down: f16[ffn=32, 8]) {
  %0 = matmul %x, %up : f32[N, 32]
  %1 = add %0, %bias : f32[N, 32]
  %2 = gelu %1 : f32[N, 32]
  %3 = matmul %2, %down : f32[N, 8]
  %4 = add %3, %x : f32[N, 8]
  return %4
}
graph @body<N: 1..8>(%ids: i32[N], param %table: f16[vocab=12, 8], param %up: f16[3, 8, ffn=32], param %bias: f16[3, ffn=32], param %down: f16[3, ffn=32, 8]) {
  %0 = gather %table, %ids : f16[N, 8]
  %1 = cast %0 {to = f32} : f32[N, 8]
  %2 = repeat @block over layers 0..3 carry(%1) slice(%up, %bias, %down) : f32[N, 8]
  return %2
}";

fn compile(text: &str, strategy: Option<&Strategy>) -> (bloomery_ir::Module, Program) {
    let module = bloomery_ir::parse(text).unwrap();
    let entries = [Interface { graph: "body".into(), rows: "N".into(), outputs: vec!["hidden".into()] }];
    let cx = Context { target: &Simple, entries: &entries, strategy, inference: None };
    let Stage::Program(program) = run(module.clone(), &cx, None, &mut |_, _| {}).unwrap() else { unreachable!() };
    (module, *program)
}

/// Values in [-1, 1), the same every time.
fn some(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let count: usize = shape.iter().product();
    Tensor::new(dtype, shape, (0..count).map(|_| next()))
}

#[test]
fn the_program_computes_the_graph() {
    computes(&compile(TEXT, None));
}

/// Every rank ends with what one rank computes.
#[test]
fn ranks_compute_the_graph_together() {
    for (axes, shared) in [
        (&[("mp", 2)][..], &[("ffn", "mp"), ("vocab", "mp")][..]),
        (&[("mp", 4)], &[("ffn", "mp")]),
        (&[("dp", 2), ("mp", 3)], &[("vocab", "mp"), ("ffn", "dp")]),
        (&[("pp", 2), ("mp", 2)], &[("ffn", "mp")]),
        (&[("pp", 3)], &[]),
    ] {
        let stages = if axes[0].0 == "pp" { Stages::Balanced } else { Stages::One };
        let axes = axes.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        let shared = shared.iter().map(|(logical, axis)| ((*logical).to_owned(), (*axis).to_owned())).collect();
        let strategy = Strategy { mesh: Mesh { axes }, axes: shared, stages, ..Strategy::default() };
        let compiled = compile(TEXT, Some(&strategy));
        let text = compiled.1.print();
        assert!(text.contains("all_reduce over") || text.contains("send"), "{text}");
        assert_eq!(compiled.1.mesh, strategy.mesh);
        computes(&compiled);
    }
}

fn computes((module, program): &(bloomery_ir::Module, Program)) {
    let graph = module.graph("body").unwrap();
    for rows in [1, 2, 5, 8] {
        let bindings = Bindings::from([("N".to_owned(), rows)]);
        let mut inputs = vec![Tensor::integers(&[rows as usize], (0..rows as i64).map(|i| i * 5 % 12))];
        for (seed, input) in graph.inputs.iter().enumerate().skip(1) {
            inputs.push(some(input.ty.dtype, &input.ty.shape(&bindings).unwrap(), seed as u64));
        }
        let expected = Interpreter::new(module, Precision::Typed).run("body", &inputs).unwrap().remove(0);

        let weight = |parameter: &Parameter| inputs[graph.input(&parameter.name).unwrap().index()].clone();
        let mut memory = OwnMemory::new(program, &bindings, weight);
        memory.put(program.io("ids").unwrap(), &inputs[0]);
        let entry = program.entry("body", rows).unwrap();
        ProgramInterpreter::new(program).run(entry, &bindings, &mut memory);
        // What comes out is with the last stage's ranks, which are all of them without stages.
        for rank in program.last_ranks() {
            let found = memory.get(rank, program.io("hidden").unwrap(), &expected.shape);
            let difference = found.difference(&expected);
            // Sums of ranks are in another order.
            assert!(difference < 2e-5, "{rows} rows, rank {rank}: {difference}");
        }
    }
}

#[test]
fn the_carry_is_written_in_place() {
    let (_, program) = compile(TEXT, None);
    assert!(!program.print().contains("copy"), "{}", program.print());
}

/// Rows that are picked come out of the head as they did when the body did everything for all of them.
#[test]
fn what_waits_until_rows_are_picked_computes_the_same() {
    const MIXED: &str = "
graph @block<N: 1..8>(%x: f32[N, 8], param %mix: f32[8, 8], param %up: f16[8, ffn=32], param %bias: f16[ffn=32], param %down: f16[ffn=32, 8]) {
  %0 = matmul %x, %mix : f32[N, 8]
  %1 = matmul %0, %x {spec = \"n h, m h -> n m\"} : f32[N, N]
  %2 = softmax %1 : f32[N, N]
  %3 = matmul %2, %0 {spec = \"n m, m h -> n h\"} : f32[N, 8]
  %4 = add %3, %x : f32[N, 8]
  %5 = matmul %4, %up : f32[N, 32]
  %6 = add %5, %bias : f32[N, 32]
  %7 = gelu %6 : f32[N, 32]
  %8 = matmul %7, %down : f32[N, 8]
  %9 = add %8, %4 : f32[N, 8]
  return %9
}
graph @body<N: 1..8>(%ids: i32[N], param %table: f16[vocab=12, 8], param %mix: f32[3, 8, 8], param %up: f16[3, 8, ffn=32], param %bias: f16[3, ffn=32], param %down: f16[3, ffn=32, 8]) {
  %0 = gather %table, %ids : f16[N, 8]
  %1 = cast %0 {to = f32} : f32[N, 8]
  %2 = repeat @block over layers 0..3 carry(%1) slice(%mix, %up, %bias, %down) : f32[N, 8]
  return %2
}
graph @head<R: 1..4, N: 1..8>(%hidden: f32[N, 8], %pick: i32[R], param %table: f16[vocab=12, 8]) {
  %0 = gather %hidden, %pick : f32[R, 8]
  %1 = matmul %0, %table {spec = \"r h, v h -> r v\"} : f32[R, 12]
  return %1
}";
    let whole = bloomery_ir::parse(MIXED).unwrap();
    let interface = |graph: &str, rows: &str, output: &str| Interface {
        graph: graph.into(),
        rows: rows.into(),
        outputs: vec![output.into()],
    };
    let entries = [interface("body", "N", "hidden"), interface("head", "R", "logits")];
    let with = |inference| {
        let cx = Context { target: &Simple, entries: &entries, strategy: None, inference };
        match run_named(whole.clone(), &cx, &["defer"], &mut |_, _| {}).unwrap() {
            Stage::Module(module) => module,
            _ => unreachable!(),
        }
    };
    assert!(with(None) == whole, "training needs every row");
    let deferred = with(Some(&Unseen));
    let late = deferred.graph("block.late").unwrap();
    assert_eq!(late.nodes.iter().filter(|node| node.op.name() == "matmul").count(), 2, "up and down");

    let bindings = Bindings::from([("N".to_owned(), 5), ("R".to_owned(), 2)]);
    let logits = |module: &bloomery_ir::Module| {
        let mut last = None;
        for name in ["body", "head"] {
            let graph = module.graph(name).unwrap();
            let input = |input: &bloomery_ir::Input| match input.name.as_str() {
                "ids" => Tensor::integers(&[5], [3, 0, 11, 7, 4]),
                "pick" => Tensor::integers(&[2], [4, 1]),
                "hidden" => last.clone().unwrap(),
                name => some(input.ty.dtype, &input.ty.shape(&bindings).unwrap(), name.len() as u64),
            };
            let inputs: Vec<Tensor> = graph.inputs.iter().map(input).collect();
            last = Some(Interpreter::new(module, Precision::Typed).run(name, &inputs).unwrap().remove(0));
        }
        last.unwrap()
    };
    let (expected, found) = (logits(&whole), logits(&deferred));
    assert!(expected.data.iter().any(|logit| logit.abs() > 0.1), "{expected:?}");
    assert_eq!(found, expected);
}
