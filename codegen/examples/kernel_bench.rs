//! Speed of the kernels on this machine, one thread, against its limits measured in the same run: arithmetic
//! against a loop of FMA in registers, streaming against a loop that only reads the same memory (4 KiB pages).
//!
//! `cargo run --release -p bloomery-codegen --example kernel_bench [WORD]` (only cases whose name has the word)

use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::spec::{
    AttentionSpec, Binary, Count, Element, GemmSpec, Matrix, Norm, Rows, Spec, Step, Store, Stored,
};
use bloomery_codegen::cpu::{Class, Kernel, emit, source};
use std::process::{Command, ExitCode};

struct Case {
    name: String,
    kernel: Kernel,
    rows: usize,
    /// Bytes of each view but the weights, which view `w` walks through.
    views: Vec<usize>,
    w: usize,
    w_bytes: usize,
    flop: f64,
    tables: (usize, usize),
    position: usize,
}

fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    let cases: Vec<Case> = products().chain(attentions()).filter(|case| case.name.contains(&word)).collect();
    match run(&cases) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn products() -> impl Iterator<Item = Case> {
    let shapes = [
        (1, 1024, 4096),
        (1, 4096, 1024),
        (1, 1024, 250_880),
        (2, 1024, 4096),
        (4, 1024, 4096),
        (8, 1024, 4096),
        (8, 4096, 1024),
        (16, 1024, 4096),
        (128, 1024, 4096),
        (512, 1024, 4096),
        (512, 4096, 1024),
        (512, 1024, 3072),
    ];
    let elements = [Element::F32, Element::F16, Element::Bf16];
    shapes.into_iter().flat_map(move |(m, k, n)| elements.map(|element| product(element, m, k, n)))
}

fn product(element: Element, m: usize, k: usize, n: usize) -> Case {
    let name = format!("product {} m {m} k {k} n {n}", element.c_name());
    let rows = match m {
        1 => Rows::One,
        2..=8 => Rows::Many { max: 8 },
        _ => Rows::Many { max: 512 },
    };
    let stored = |view| Stored { view, element };
    let mut store = Store::new();
    let value = store.step(Step::Value);
    let bias = store.step(Step::Column(stored(2)));
    let mut sum = store.binary(Binary::Add, value, bias);
    if n == 4 * k {
        sum = store.gelu(sum);
    }
    let norm = (n != 1024).then_some(Norm { affine: Some((stored(3), stored(4))), epsilon: 1e-5 });
    let store = store.to(sum, Matrix::whole(5, n));
    let spec =
        GemmSpec { count: Count::of(0), rows, k, n, x: Matrix::whole(0, k), w: stored(1), norm, rounded: false, store };
    Case {
        kernel: emit(Class::V3, &name.replace(' ', "_"), &Spec::Gemm(spec)),
        name,
        rows: m,
        views: vec![4 * m * k, 0, 4 * n, 4 * k, 4 * k, 4 * m * n],
        w: 1,
        w_bytes: element.bytes() * k * n,
        flop: 2.0 * (m * k * n) as f64,
        tables: (usize::MAX, usize::MAX),
        position: 0,
    }
}

fn attentions() -> impl Iterator<Item = Case> {
    let shapes = [(512, 0), (512, 1536), (1, 1023), (1, 8191)];
    shapes.into_iter().flat_map(|(m, before)| [Element::F32, Element::F16].map(|e| attention(e, m, before)))
}

fn attention(element: Element, m: usize, before: usize) -> Case {
    let (heads, d) = (16, 64);
    let name = format!("attention {} m {m} after {before}", element.c_name());
    let spec = AttentionSpec {
        heads,
        d,
        q: Matrix::whole(0, heads * d),
        kv: Stored { view: 1, element },
        rows: 2,
        pages: 3,
        slopes: 4,
        out: Matrix::whole(5, heads * d),
        scale: 0.125,
        count: Count::of(0),
        sequences: Count::of(1),
        pages_width: Count::of(2),
        page_tokens: 64,
    };
    let pages = (before + m).div_ceil(64);
    let keys: usize = (0..m).map(|row| before + row + 1).sum();
    Case {
        kernel: emit(Class::V3, &name.replace(' ', "_"), &Spec::Attention(spec)),
        name,
        rows: m,
        views: vec![4 * m * heads * d, 0, 12, 4 * pages, 4 * heads, 4 * m * heads * d],
        w: 1,
        w_bytes: pages * heads * 64 * (2 * d * element.bytes() + 4),
        flop: 4.0 * (keys * heads * d) as f64,
        tables: (2, 3),
        position: before,
    }
}

fn run(cases: &[Case]) -> Result<(), String> {
    let kernels: Vec<Kernel> = cases.iter().map(|case| case.kernel.clone()).collect();
    let rows: String = cases.iter().map(entry).collect();
    let text = format!(
        "{}\n{}\nstatic struct bench benches[] = {{\n{rows}}};\n{}",
        source(Class::V3, &kernels),
        include_str!("kernel_bench/table.c"),
        include_str!("kernel_bench/main.c")
    );
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-march=x86-64-v3"];
    let io = ["-o", "bench", "bench.c"];
    let options: Vec<String> = options.iter().chain(&io).map(|option| option.to_string()).collect();
    let built = Compiler::find().build_in(folder.path(), &[("bench.c", &text)], &options);
    built.map_err(|error| error.to_string())?;
    let status = Command::new(folder.path().join("bench")).status().map_err(|error| error.to_string())?;
    status.success().then_some(()).ok_or(status.to_string())
}

fn entry(case: &Case) -> String {
    let dims = [case.rows as u32, 1, (case.views[3] / 4) as u32];
    let lengths = |_| vec![case.rows as u32];
    let tiles = case.kernel.main.tiles.count(&dims, lengths);
    let (prepare, prepare_tiles) = match &case.kernel.prepare {
        Some(phase) => (phase.symbol.as_str(), phase.tiles.count(&dims, |_| vec![])),
        None => ("0", 0),
    };
    let views = case.views.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "    {{\"{}\", {prepare}, {}, {prepare_tiles}, {tiles}, {{{}, 1, {}}}, {{{views}}}, {}, {}ull, {}ull, {}ull, {:e}, {}, {}}},\n",
        case.name,
        case.kernel.main.symbol,
        dims[0],
        dims[2],
        case.w,
        case.w_bytes,
        case.kernel.shared.bytes(&dims),
        case.kernel.local,
        case.flop,
        case.tables.0 as i32,
        case.position,
    )
}
