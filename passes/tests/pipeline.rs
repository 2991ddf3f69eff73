//! A small model through all passes: the program equals the graph.
use bloomery_ir::graph::Graph;
use bloomery_ir::program::{Interface, Place, View};
use bloomery_ir::run_program::{Memory, ProgramInterpreter, pack, unpack};
use bloomery_ir::target::{Refusal, Target};
use bloomery_ir::types::DType;
use bloomery_ir::{Bindings, Interpreter, Layout, Precision, Program, Tensor};
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

/// Memory of one run, by place.
struct Bytes<'a> {
    program: &'a Program,
    arena: Vec<u8>,
    parameters: Vec<Vec<u8>>,
    ios: Vec<Vec<u8>>,
}

impl Bytes<'_> {
    fn find(&self, view: &View, layer: u64) -> (usize, usize) {
        match view.place {
            Place::Arena { offset, stride } => (0, (offset + stride * layer) as usize),
            Place::Parameter(i) => {
                let layers = self.program.parameters[i].ty.dims[0].extent.as_number().unwrap() as usize;
                (1, if view.per_layer { self.parameters[i].len() / layers * layer as usize } else { 0 })
            }
            Place::Io(_) => (2, 0),
            Place::State(_) => unreachable!("this model keeps nothing"),
        }
    }
}

impl Memory for Bytes<'_> {
    fn read(&self, view: &View, layer: u64, bytes: usize) -> &[u8] {
        let (_, start) = self.find(view, layer);
        match view.place {
            Place::Parameter(i) => &self.parameters[i][start..start + bytes],
            Place::Io(i) => &self.ios[i][..bytes],
            _ => &self.arena[start..start + bytes],
        }
    }

    fn write(&mut self, view: &View, layer: u64, bytes: usize) -> &mut [u8] {
        let (_, start) = self.find(view, layer);
        match view.place {
            Place::Io(i) => &mut self.ios[i][..bytes],
            _ => &mut self.arena[start..start + bytes],
        }
    }
}

fn compile(text: &str) -> (bloomery_ir::Module, Program) {
    let module = bloomery_ir::parse(text).unwrap();
    let entries = [Interface { graph: "body".into(), rows: "N".into(), outputs: vec!["hidden".into()] }];
    let cx = Context { target: &Simple, entries: &entries, strategy: None, inference: None };
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

/// A weight's bytes: each layer packed on its own.
fn packed(program: &Program, i: usize, tensor: &Tensor) -> Vec<u8> {
    let parameter = &program.parameters[i];
    let layers = if parameter.stacked { tensor.shape[0] } else { 1 };
    let layer = |layer| {
        let one = if parameter.stacked { tensor.layer(layer) } else { tensor.clone() };
        let mut bytes = vec![0; parameter.layout.bytes(&one.shape, one.dtype) as usize];
        pack(&parameter.layout, &one, &mut bytes);
        bytes
    };
    (0..layers).flat_map(layer).collect()
}

#[test]
fn the_program_computes_the_graph() {
    let (module, program) = compile(TEXT);
    let graph = module.graph("body").unwrap();
    for rows in [1, 2, 5, 8] {
        let bindings = Bindings::from([("N".to_owned(), rows)]);
        let mut inputs = vec![Tensor::integers(&[rows as usize], (0..rows as i64).map(|i| i * 3 % 10))];
        for (seed, input) in graph.inputs.iter().enumerate().skip(1) {
            inputs.push(some(input.ty.dtype, &input.ty.shape(&bindings).unwrap(), seed as u64));
        }
        let expected = Interpreter::new(&module, Precision::Typed).run("body", &inputs).unwrap().remove(0);

        let parameter = |i: usize| graph.input(&program.parameters[i].name).unwrap().index();
        let mut memory = Bytes {
            program: &program,
            arena: vec![0xFF; program.arena_bytes() as usize],
            parameters: (0..program.parameters.len()).map(|i| packed(&program, i, &inputs[parameter(i)])).collect(),
            ios: vec![vec![0; 32 * rows as usize]; program.ios.len()],
        };
        pack(&Layout::RowMajor, &inputs[0], &mut memory.ios[program.io("ids").unwrap()]);
        let entry = program.entry("body", rows).unwrap();
        ProgramInterpreter::new(&program).run(entry, &bindings, &mut memory);
        let hidden = &memory.ios[program.io("hidden").unwrap()];
        let found = unpack(&Layout::RowMajor, &expected.shape, DType::F32, hidden);
        assert!(found.difference(&expected) < 1e-6, "{rows} rows: {}", found.difference(&expected));
    }
}

#[test]
fn the_carry_is_written_in_place() {
    let (_, program) = compile(TEXT);
    assert!(!program.print().contains("copy"), "{}", program.print());
}
