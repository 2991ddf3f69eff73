//! Every sample of every operation, as a kernel of its own and grouped as passes group: what the C computes is what
//! the interpreter computes.

use crate::classes::only_compiled;
use crate::data::random;
use crate::{Cases, PLAIN_TILES};
use bloomery_codegen::cpu::Class;
use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::image::image;
use bloomery_codegen::cpu::recognise::recognise;
use bloomery_codegen::cpu::spec::Spec;
use bloomery_codegen::cpu::{Cpu, layouts};
use bloomery_ir::graph::Role;
use bloomery_ir::op::Sample;
use bloomery_ir::ops::cache_append::CacheAppend;
use bloomery_ir::run_program::{pack, unpack};
use bloomery_ir::{
    Bindings, DType, Graph, Interpreter, Layout, Module, Op, Precision, SymbolBound, Target, Tensor, TensorType,
};

/// Operations between ranks or around graphs, and constants, are no kernels.
const NOT_KERNELS: &[&str] = &[
    "constant",
    "axis_index",
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "repeat",
    "call",
    "gather_part",
    "scatter",
];

struct Run {
    launch: usize,
    graph: Graph,
    layouts: Vec<Layout>,
    inputs: Vec<Tensor>,
    what: String,
}

#[test]
fn every_sample_of_every_operation_is_computed() {
    let cases = every_sample(Cases::default(), |_| true);
    for class in only_compiled().filter(|class| !class.has_tiles()) {
        let image = image(&Compiler::for_class(class), class, &cases.of_class(class));
        assert!(image.is_ok(), "{}: {}", class.name(), image.unwrap_err());
    }
}

#[test]
fn every_sample_of_a_product_is_computed_on_tiles() {
    let cases = every_sample(Cases::of(PLAIN_TILES), |name| name == "matmul");
    assert!(cases.of_class(Class::PlainTiles).iter().any(|kernel| kernel.tile_pieces > 0), "none has weights of bf16");
}

/// Checks the samples of operations whose names are wanted.
fn every_sample(mut cases: Cases, wanted: impl Fn(&str) -> bool) -> Cases {
    let mut runs = vec![];
    for sample in Op::samples() {
        if NOT_KERNELS.contains(&sample.op.name()) || !wanted(sample.op.name()) {
            continue;
        }
        for n in [1, 5, 13] {
            let graph = graph_of(&sample, n);
            let symbolic = !graph.symbols.is_empty();
            let inputs = inputs_of(&sample, &graph, n as usize);
            add(&mut cases, &mut runs, graph, inputs, n as usize);
            if !symbolic {
                break;
            }
        }
    }
    check(&cases, &runs);
    cases
}

/// Kernels as passes make them: a norm before a product, calculations behind it.
const GROUPED: &[&str] = &[
    "graph @qkv<N: 2..8>(%x: f32[N, 24], %g: f16[24], %b: f16[24], param %w: f16[24, 3, 8], %bias: f16[3, 8]) {
      %0 = layer_norm %x, %g, %b {epsilon = 0.00001} : f32[N, 24]
      %1 = matmul %0, %w {spec = \"n h, h a d -> n a d\"} : f32[N, 3, 8]
      %2 = add %1, %bias : f32[N, 3, 8]
      %3 = scale %2 {by = 0.5} : f32[N, 3, 8]
      return %3
    }",
    "graph @up<N: 9..64>(%x: f32[N, 24], param %w: bf16[24, 40], %bias: f32[40]) {
      %0 = matmul %x, %w : f32[N, 40]
      %1 = add %0, %bias : f32[N, 40]
      %2 = gelu %1 : f32[N, 40]
      return %2
    }",
    "graph @dense<N: 1..1>(%x: f32[N, 3, 8], param %w: f32[3, 8, 20], %bias: f32[20], %residual: f32[N, 20]) {
      %0 = matmul %x, %w {spec = \"n a d, a d h -> n h\"} : f32[N, 20]
      %1 = add %0, %bias : f32[N, 20]
      %2 = add %1, %residual : f32[N, 20]
      return %2, %1
    }",
    "graph @embed<N: 1..64>(%table: bf16[9, 12], %ids: i32[N], %g: bf16[12], %b: bf16[12]) {
      %0 = gather %table, %ids : bf16[N, 12]
      %1 = cast %0 {to = \"f32\"} : f32[N, 12]
      %2 = layer_norm %1, %g, %b {epsilon = 0.001} : f32[N, 12]
      return %2
    }",
    "graph @places<N: 1..64>(%x: f32[N, 2, 6], %y: f16[N, 12], %z: f32[6]) {
      %0 = reshape %y {dims = [\"N\", 2, 6]} : f16[N, 2, 6]
      %1 = mul %x, %0 : f32[N, 2, 6]
      %2 = sub %1, %z : f32[N, 2, 6]
      %3 = cast %2 {to = \"f16\"} : f16[N, 2, 6]
      %4 = tanh %3 : f16[N, 2, 6]
      return %2, %4
    }",
    // Rounded to bf16 on the way into a product, behind a norm and without one.
    "graph @rounded<N: 9..64>(%x: f32[N, 24], param %w: bf16[24, 40], %bias: bf16[40]) {
      %0 = cast %x {to = \"bf16\"} : bf16[N, 24]
      %1 = cast %0 {to = \"f32\"} : f32[N, 24]
      %2 = matmul %1, %w : f32[N, 40]
      %3 = add %2, %bias : f32[N, 40]
      return %3
    }",
    "graph @rounded_row<N: 1..1>(%x: f32[N, 3, 8], param %w: bf16[3, 8, 40]) {
      %0 = cast %x {to = \"bf16\"} : bf16[N, 3, 8]
      %1 = cast %0 {to = \"f32\"} : f32[N, 3, 8]
      %2 = matmul %1, %w {spec = \"n a d, a d h -> n h\"} : f32[N, 40]
      return %2
    }",
    // Without factor and shift, which the weight has taken in.
    "graph @plain_norm<N: 9..64>(%x: f32[N, 24], param %w: f32[24, 40]) {
      %0 = layer_norm %x {epsilon = 0.00001} : f32[N, 24]
      %1 = matmul %0, %w : f32[N, 40]
      return %1
    }",
    // Columns of a wider row, read where they lie.
    "graph @append<N: 1..16>(state %kv: f16[2, 2, 3, 16, 4], %wide: f32[N, 3, 3, 4], %rows: i32[1, 3], %pages: i32[1, 2]) {
      %0 = slice %wide {dim = 1, from = 1, to = 2} : f32[N, 1, 3, 4]
      %1 = reshape %0 {dims = [\"N\", 3, 4]} : f32[N, 3, 4]
      %2 = slice %wide {dim = 1, from = 2, to = 3} : f32[N, 1, 3, 4]
      %3 = reshape %2 {dims = [\"N\", 3, 4]} : f32[N, 3, 4]
      %4 = cache_append %kv, %1, %3, %rows, %pages : f16[2, 2, 3, 16, 4]
      return %4
    }",
    "graph @attention<N: 1..16>(%wide: f32[N, 3, 3, 4], %kv: f16[2, 2, 3, 16, 4], %rows: i32[1, 3], %pages: i32[1, 2], %slopes: f32[3]) {
      %0 = slice %wide {dim = 1, from = 1, to = 2} : f32[N, 1, 3, 4]
      %1 = reshape %0 {dims = [\"N\", 3, 4]} : f32[N, 3, 4]
      %2 = alibi_attention %1, %kv, %rows, %pages, %slopes {scale = 0.5} : f32[N, 3, 4]
      return %2
    }",
    "graph @columns<N: 2..8>(%wide: f32[N, 40], param %w: f16[12, 20]) {
      %0 = slice %wide {dim = 1, from = 20, to = 32} : f32[N, 12]
      %1 = matmul %0, %w : f32[N, 20]
      return %1
    }",
    "graph @twice<N: 1..64>(%wide: f32[N, 2, 24]) {
      %0 = slice %wide {dim = 1, from = 1, to = 2} : f32[N, 1, 24]
      %1 = reshape %0 {dims = [\"N\", 3, 8]} : f32[N, 3, 8]
      %2 = slice %1 {dim = 1, from = 2, to = 3} : f32[N, 1, 8]
      %3 = reshape %2 {dims = [\"N\", 8]} : f32[N, 8]
      %4 = softmax %3 : f32[N, 8]
      return %4
    }",
];

#[test]
fn grouped_kernels_are_computed() {
    grouped(Cases::default(), |_| true);
}

#[test]
fn grouped_products_are_computed_on_tiles() {
    grouped(Cases::of(PLAIN_TILES), |text| text.contains("param %w: bf16"));
}

fn grouped(mut cases: Cases, wanted: impl Fn(&str) -> bool) {
    let mut runs = vec![];
    for text in GROUPED.iter().filter(|text| wanted(text)) {
        let module = bloomery_ir::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let graph = module.graphs[0].clone();
        let n = graph.symbols[0].most.min(11);
        let shapes = graph.inputs.iter().map(|input| shape(&input.ty, n));
        let seeds = 1..;
        let tensor = |(seed, (input, shape)): (u64, (&bloomery_ir::Input, Vec<usize>))| {
            let count = shape.iter().product();
            let value =
                |v: f32| if input.ty.dtype == DType::I32 { f64::from((v.abs() * 5.0) as i32) } else { v.into() };
            // One sequence of all tokens, which lie in the second page first.
            match &*input.name {
                "rows" => Tensor::integers(&shape, [0, n as i64, 7]),
                "pages" => Tensor::integers(&shape, [1, 0]),
                _ => Tensor::new(input.ty.dtype, &shape, random(seed, count).into_iter().map(value)),
            }
        };
        let inputs = seeds.zip(graph.inputs.iter().zip(shapes)).map(tensor).collect();
        add(&mut cases, &mut runs, graph, inputs, n as usize);
    }
    check(&cases, &runs);
}

#[test]
fn what_is_no_kernel_is_refused() {
    let refused = |text: &str| {
        let module = bloomery_ir::parse(text).unwrap_or_else(|error| panic!("{error}"));
        Cpu.cost(&module.graphs[0]).expect_err("it is refused").to_string()
    };
    let two = refused(
        "graph @two<N: 1..8>(%x: f32[N, 8], param %v: f32[8, 8], param %w: f32[8, 8]) {
          %0 = matmul %x, %v : f32[N, 8]
          %1 = matmul %0, %w : f32[N, 8]
          return %1
        }",
    );
    assert_eq!(two, "no kernel: a product and operations that each want a kernel");
    let across = refused(
        "graph @across<N: 1..8>(%x: f32[N, 3, 8]) {
          %0 = slice %x {dim = 2, from = 0, to = 4} : f32[N, 3, 4]
          %1 = reshape %0 {dims = [\"N\", 12]} : f32[N, 12]
          %2 = softmax %1 : f32[N, 12]
          return %2
        }",
    );
    assert_eq!(across, "no kernel: rows of f32[N, 12] are no columns of f32[N, 3, 8]");
    let rounded = refused(
        "graph @rounded<N: 1..8>(%x: f32[N, 8], param %w: bf16[8, 8]) {
          %0 = matmul %x, %w : f32[N, 8]
          %1 = cast %0 {to = \"bf16\"} : bf16[N, 8]
          %2 = cast %1 {to = \"f32\"} : f32[N, 8]
          return %2
        }",
    );
    assert_eq!(rounded, "no kernel: rows are rounded to bf16 by the product that takes them");
    let calculated = refused(
        "graph @calculated<N: 1..8>(%x: f32[N, 8]) {
          %0 = slice %x {dim = 1, from = 0, to = 4} : f32[N, 4]
          %1 = gelu %0 : f32[N, 4]
          return %1
        }",
    );
    assert_eq!(calculated, "no kernel: `slice` stands alone");
}

fn graph_of(sample: &Sample, n: u64) -> Graph {
    let list: Vec<String> = sample.operands.iter().map(|ty| ty.to_string()).collect();
    let symbolic = list.iter().any(|ty| ty.contains('N')) || format!("{:?}", sample.op).contains("\"N\"");
    let symbols = if symbolic { vec![SymbolBound::new("N", 1, n)] } else { vec![] };
    let mesh = bloomery_ir::Mesh::default();
    let mut builder = bloomery_ir::Builder::new("kernel", symbols, &mesh, []);
    let weight = |i: usize| if i == 1 && sample.op.name() == "matmul" { Role::Parameter } else { Role::Plain };
    let inputs =
        list.iter().enumerate().map(|(i, text)| (i, bloomery_ir::parse::parse_type(text).expect("a sample's type")));
    let inputs: Vec<_> = inputs.map(|(i, ty)| builder.input(&format!("x{i}"), weight(i), ty)).collect();
    if symbolic && !list.iter().any(|ty| ty.contains('N')) {
        // The interpreter takes a name's value from an input.
        builder.input("n", Role::Plain, bloomery_ir::parse::parse_type("f32[N]").expect("a type"));
    }
    let results = builder.node(sample.op.clone(), &inputs).expect("a sample's operands");
    builder.finish(&results)
}

fn shape(ty: &TensorType, n: u64) -> Vec<usize> {
    ty.shape(&Bindings::from([("N".to_owned(), n)])).expect("one symbol")
}

fn inputs_of(sample: &Sample, graph: &Graph, n: usize) -> Vec<Tensor> {
    let tensor = |(i, input): (usize, &bloomery_ir::Input)| {
        let shape = shape(&input.ty, n as u64);
        let count = shape.iter().product();
        let (low, high) = sample.reals;
        let (from, to) = sample.integers;
        let fixed = sample.fixed.iter().find(|(operand, _)| *operand == i).map(|(_, data)| data.clone());
        let draw = |v: f32| {
            let part = f64::from(v / 3.0 + 0.5);
            match input.ty.dtype.is_float() {
                true => low + part * (high - low),
                false => (from as f64 + part * (to - from + 1) as f64).floor().clamp(from as f64, to as f64),
            }
        };
        let data = fixed.unwrap_or_else(|| random(i as u64 + 1, count).into_iter().map(draw).collect());
        Tensor::new(input.ty.dtype, &shape, data)
    };
    graph.inputs.iter().enumerate().map(tensor).collect()
}

fn add(cases: &mut Cases, runs: &mut Vec<Run>, graph: Graph, inputs: Vec<Tensor>, n: usize) {
    let what = format!("{}, N = {n}", bloomery_ir::print::print_graph(&graph));
    let layouts = layouts::inputs(&graph);
    let spec: Spec = recognise(&graph, &layouts, &graph.symbols).unwrap_or_else(|refusal| panic!("{refusal}: {what}"));
    let kernel = cases.kernel(&spec);
    let mut views: Vec<Vec<u8>> =
        inputs.iter().zip(&layouts).map(|(tensor, layout)| laid_out(layout, tensor)).collect();
    for output in &graph.outputs {
        let (ty, layout) = (graph.ty(*output), output_layout(&graph));
        let bytes = layout.bytes(&shape(ty, n as u64), ty.dtype) as usize;
        // A cache is written where it lies; anything else is written whole.
        views.push(if layout == Layout::CachePages { views[0].clone() } else { vec![0xff; bytes] });
    }
    let launch = cases.launch(kernel, views, &[n as u32], 1);
    runs.push(Run { launch, graph, layouts, inputs, what });
}

fn laid_out(layout: &Layout, tensor: &Tensor) -> Vec<u8> {
    let mut bytes = vec![0; layout.bytes(&tensor.shape, tensor.dtype) as usize];
    pack(layout, tensor, &mut bytes);
    bytes
}

fn output_layout(graph: &Graph) -> Layout {
    let append = graph.nodes.iter().any(|node| node.op == Op::CacheAppend(CacheAppend));
    if append { Layout::CachePages } else { Layout::RowMajor }
}

fn check(cases: &Cases, runs: &[Run]) {
    let found = cases.run();
    for run in runs {
        let module = Module { graphs: vec![run.graph.clone()], ..Module::default() };
        let expected = Interpreter::new(&module, Precision::Typed).run(&run.graph.name, &run.inputs).expect("it runs");
        for (i, expected) in expected.iter().enumerate() {
            let bytes = &found[run.launch][run.layouts.len() + i];
            let found = unpack(&output_layout(&run.graph), &expected.shape, expected.dtype, bytes);
            let top = expected.data.iter().fold(1e-30, |top: f64, v| top.max(v.abs()));
            // Half a unit in the last place for the rounding the interpreter does too, as much for a tie that falls
            // to the other side, and in f32 what sums of some dozens of terms lose.
            let tolerance = match expected.dtype {
                DType::F16 => 1.0 / 1024.0,
                DType::BF16 => 1.0 / 128.0,
                _ => 2e-6,
            };
            let worst = expected.data.iter().zip(&found.data).map(|(a, b)| (a - b).abs() / top);
            let worst = worst.fold(0.0, |worst: f64, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) });
            assert!(worst <= tolerance, "error {worst:.1e} in output {i} of {}", run.what);
        }
    }
}
