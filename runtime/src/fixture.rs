//! A language model small enough for tests: embedding, two layers of attention with one head, head. Run by the
//! interpreter, or natively by kernels written by hand; weights are a fixed pattern.

use bloomery_artifact::{
    Artifact, ArtifactWriter, Check, CodeImage, Count, KernelCode, Meta, Phase, SharedScratch, Tiles, WriteError,
    plan_weights,
};
use bloomery_ir::graph::SymbolBound;
use bloomery_ir::parse::{parse, parse_type};
use bloomery_ir::program::{Buffer, Entry, Kernel, KernelKind, Launch, Origin, Parameter, Place, Program, Step, View};
use bloomery_ir::run_program::pack;
use bloomery_ir::{Layout, Mesh, Tensor};
use std::path::Path;
use std::sync::Arc;

pub(crate) const VOCABULARY: u32 = 11;
pub(crate) const CONTEXT: usize = 14;

const NAMES: &str = "<N: 1..4, S: 1..3, P: 1..4, R: 1..2, C: 1..64>";
const KV: &str = "f32[C, 2, 1, 4, 6]";

fn kernel(name: &str, kind: KernelKind, text: &str, layouts: &[(usize, Layout)]) -> Kernel {
    let text = format!("graph @{name}{NAMES}{text}").replace("KV", KV);
    let graph = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}")).graphs.remove(0);
    let mut inputs = vec![Layout::RowMajor; graph.inputs.len()];
    layouts.iter().for_each(|(i, layout)| inputs[*i] = layout.clone());
    let append = kind == KernelKind::Append;
    let outputs = vec![if append { Layout::CachePages } else { Layout::RowMajor }; graph.outputs.len()];
    Kernel { name: name.into(), kind, graph, inputs, outputs, in_place: append.then_some((0, 0)) }
}

fn panels(contracted: &[usize]) -> Layout {
    Layout::Panels { contracted: contracted.to_vec() }
}

fn kernels() -> Vec<Kernel> {
    vec![
        kernel(
            "embed",
            KernelKind::Gather,
            "(%ids: i32[N], param %w: f32[11, 6]) { %0 = gather %w, %ids : f32[N, 6] return %0 }",
            &[],
        ),
        kernel(
            "project",
            KernelKind::Contraction,
            "(%x: f32[N, 6], param %w: f32[6, 1, 6]) {
                %0 = matmul %x, %w {spec = \"n h, h a d -> n a d\"} : f32[N, 1, 6] return %0 }",
            &[(1, panels(&[0]))],
        ),
        kernel(
            "append",
            KernelKind::Append,
            "(state %kv: KV, %k: f32[N, 1, 6], %v: f32[N, 1, 6], %rows: i32[S, 3], %pages: i32[S, P]) {
                %0 = cache_append %kv, %k, %v, %rows, %pages : KV return %0 }",
            &[(0, Layout::CachePages)],
        ),
        kernel(
            "attend",
            KernelKind::Attention,
            "(%q: f32[N, 1, 6], state %kv: KV, %rows: i32[S, 3], %pages: i32[S, P], param %slopes: f32[1],
              param %w: f32[1, 6, 6], %x: f32[N, 6]) {
                %0 = alibi_attention %q, %kv, %rows, %pages, %slopes {scale = 0.5} : f32[N, 1, 6]
                %1 = matmul %0, %w {spec = \"n a d, a d h -> n h\"} : f32[N, 6]
                %2 = add %1, %x : f32[N, 6] return %2 }",
            &[(1, Layout::CachePages)],
        ),
        kernel(
            "head",
            KernelKind::Contraction,
            "(%x: f32[N, 6], %pick: i32[R], param %w: f32[6, 11]) {
                %0 = gather %x, %pick : f32[R, 6] %1 = matmul %0, %w : f32[R, 11] return %1 }",
            &[(2, panels(&[0]))],
        ),
    ]
}

fn view(place: Place, ty: &str) -> View {
    View { place, per_layer: false, ty: parse_type(ty).unwrap(), layout: Layout::RowMajor }
}

fn io(i: usize) -> View {
    view(Place::Io(i), ["i32[N]", "i32[S, 3]", "i32[S, P]", "f32[N, 6]", "i32[R]", "f32[R, 11]"][i])
}

fn arena(offset: u64, ty: &str) -> View {
    view(Place::Arena { offset, stride: 0 }, ty)
}

fn weight(i: usize, ty: &str) -> View {
    View { per_layer: true, ..view(Place::Parameter(i), ty) }
}

fn launch(kernel: usize, wave: u32, inputs: Vec<View>, outputs: Vec<View>) -> Step {
    Step::Launch(Launch { kernel, inputs, outputs, wave })
}

fn body(least: u64, most: u64) -> Entry {
    let (x, q, k, v) = (0, 128, 256, 384);
    let x = || arena(x, "f32[N, 6]");
    let of_head = |offset| arena(offset, "f32[N, 1, 6]");
    let kv = || View { per_layer: true, layout: Layout::CachePages, ..view(Place::State(0), KV) };
    let project = |i, to| {
        let weight = View { layout: panels(&[0]), ..weight(i, "f32[6, 1, 6]") };
        launch(1, 0, vec![x(), weight], vec![of_head(to)])
    };
    let slopes = view(Place::Parameter(5), "f32[1]");
    let layer = vec![
        project(1, q),
        project(2, k),
        project(3, v),
        launch(2, 1, vec![kv(), of_head(k), of_head(v), io(1), io(2)], vec![kv()]),
        launch(3, 2, vec![of_head(q), kv(), io(1), io(2), slopes, weight(4, "f32[1, 6, 6]"), x()], vec![x()]),
    ];
    let steps = vec![
        launch(0, 0, vec![io(0), view(Place::Parameter(0), "f32[11, 6]")], vec![x()]),
        Step::Loop { from: 0, to: 2, reverse: false, steps: layer },
        Step::Copy { from: x(), to: io(3) },
    ];
    let name = format!("body_{least}_{most}");
    Entry { name, group: "body".into(), rows: "N".into(), least, most, arena_bytes: 512, steps }
}

fn head() -> Entry {
    let weight = View { layout: panels(&[0]), ..view(Place::Parameter(6), "f32[6, 11]") };
    let steps = vec![launch(4, 0, vec![io(3), io(4), weight], vec![io(5)])];
    let (name, group, rows) = ("head_1_2".into(), "head".into(), "R".into());
    Entry { name, group, rows, least: 1, most: 2, arena_bytes: 0, steps }
}

fn program() -> Program {
    let parameter = |(name, ty, layout): (&str, &str, Layout)| Parameter {
        name: name.into(),
        ty: parse_type(ty).unwrap(),
        stacked: ty.starts_with("f32[2,"),
        layout,
        origin: Origin::Checkpoint,
        cuts: vec![],
    };
    let buffer = |name: &str, ty: &str, stacked, layout| Buffer {
        name: name.into(),
        ty: parse_type(ty).unwrap(),
        stacked,
        layout,
    };
    let row = || Layout::RowMajor;
    let ios = ["ids", "rows", "pages", "hidden", "pick", "logits"];
    let ios = ios.iter().enumerate().map(|(i, name)| Buffer { ty: io(i).ty, ..buffer(name, "f32[1]", false, row()) });
    let bound = |name, most| SymbolBound::new(name, 1, most);
    Program {
        name: "toy".into(),
        mesh: Mesh::default(),
        replicas: 1,
        stages: vec![],
        symbols: vec![bound("N", 4), bound("S", 3), bound("P", 4), bound("R", 2), bound("C", 64)],
        parameters: [
            ("table", "f32[11, 6]", row()),
            ("q", "f32[2, 6, 1, 6]", panels(&[0])),
            ("k", "f32[2, 6, 1, 6]", panels(&[0])),
            ("v", "f32[2, 6, 1, 6]", panels(&[0])),
            ("out", "f32[2, 1, 6, 6]", row()),
            ("slopes", "f32[1]", row()),
            ("head", "f32[6, 11]", panels(&[0])),
        ]
        .map(parameter)
        .into(),
        states: vec![buffer("kv", "f32[2, C, 2, 1, 4, 6]", true, Layout::CachePages)],
        ios: ios.collect(),
        kernels: kernels(),
        entries: vec![body(1, 1), body(2, 4), head()],
    }
}

/// Where the linker script puts each function.
const FUNCTIONS: [&str; 6] = ["embed", "project_prepare", "project", "append", "attend", "head"];

/// Machine code of the kernels, from the system's compiler.
fn image() -> CodeImage {
    let folder = tempfile::tempdir().unwrap();
    let place = |(i, name): (usize, &&str)| format!(". = {}; *(.{name})\n", i * 1024);
    let script: String = FUNCTIONS.iter().enumerate().map(place).collect();
    let script = format!("SECTIONS {{ .code 0 : {{ {script} *(.text) *(.rodata*) }} /DISCARD/ : {{ *(*) }} }}");
    std::fs::write(folder.path().join("image.ld"), script).unwrap();
    std::fs::write(folder.path().join("kernels.c"), include_str!("fixture/kernels.c")).unwrap();
    let options = "-O1 -ffreestanding -fno-builtin -fPIC -fno-stack-protector -fcf-protection=none -nostdlib -static \
        -fno-asynchronous-unwind-tables -ffp-contract=off -Wl,-T,image.ld -Wl,--oformat=binary -Wl,--build-id=none \
        -Wl,-e,0 -o image kernels.c";
    let run = std::process::Command::new("cc").args(options.split_whitespace()).current_dir(folder.path()).output();
    let run = run.expect("Rust needs cc too");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let bytes = std::fs::read(folder.path().join("image")).unwrap();
    CodeImage { class: "plain".into(), bytes, kernels: kernel_codes() }
}

fn kernel_codes() -> Vec<KernelCode> {
    let phase = |name: &str, tiles| {
        let index = FUNCTIONS.iter().position(|function| *function == name).unwrap();
        Phase { offset: index as u64 * 1024, tiles }
    };
    let rows = |dim| Tiles::Rows { count: Count::of(dim), rows: 1, columns: 1 };
    let simple = |name, tiles| KernelCode {
        prepare: None,
        main: phase(name, tiles),
        shared: SharedScratch::NONE,
        local: 0,
        tile_pieces: 0,
    };
    let blocks = Tiles::Blocks { table: 2, count: Count::of(1), rows: 2, columns: 1 };
    let project = KernelCode {
        prepare: Some(phase("project_prepare", rows(0))),
        shared: SharedScratch { fixed: 0, per_row: 24, count: Count::of(0) },
        ..simple("project", rows(0))
    };
    vec![
        simple("embed", rows(0)),
        project,
        simple("append", rows(1)),
        KernelCode { local: 16 * 8, ..simple("attend", blocks) },
        simple("head", rows(3)),
    ]
}

/// Writes the model.
pub(crate) fn write(path: &Path, code: Option<&CodeImage>) {
    let program = program();
    let plan = plan_weights(&program).unwrap();
    let mut writer = ArtifactWriter::create(path).unwrap();
    writer.program(&program).unwrap();
    let meta = Meta { vocabulary: VOCABULARY, max_context: CONTEXT as u32, ..Meta::default() };
    writer.meta(&meta).unwrap();
    let fill = |sink: &mut bloomery_artifact::WeightSink<'_>| -> Result<(), WriteError> {
        for slot in plan.slots() {
            let parameter = &program.parameters[slot.parameter];
            let ty = if parameter.stacked { parameter.ty.inner() } else { parameter.ty.clone() };
            let shape = ty.shape(&Default::default()).unwrap();
            let seed = slot.parameter * 1000 + slot.layer as usize * 100;
            let values = (0..shape.iter().product()).map(|i| ((i + seed) as f64 * 12.9898).sin());
            let mut bytes = vec![0; slot.bytes as usize];
            pack(&parameter.layout, &Tensor::new(ty.dtype, &shape, values), &mut bytes);
            sink.record(slot, &bytes)?;
        }
        Ok(())
    };
    writer.weights(&plan, fill).unwrap();
    code.into_iter().for_each(|image| writer.code(image).unwrap());
    writer.finish().unwrap();
}

/// The model, opened; without code.
pub(crate) fn artifact() -> Arc<Artifact> {
    open(None)
}

/// The model with code for any processor.
pub(crate) fn native_artifact() -> Arc<Artifact> {
    open(Some(&image()))
}

fn open(code: Option<&CodeImage>) -> Arc<Artifact> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.bloom");
    write(&path, code);
    Arc::new(Artifact::open(&path, Check::Lazy).unwrap())
}
