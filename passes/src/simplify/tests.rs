//! Every rule by itself on its case, forced and compared on random numbers; then the pass on all cases.

use super::*;
use bloomery_ir::interpret::bind;
use bloomery_ir::target::Refusal;
use bloomery_ir::{DType, Interpreter, Precision, Tensor, ValueId, parse, print::print, verify};

/// A target whose kernels take one nanosecond for each arithmetic operation and each byte moved.
pub(crate) struct Plain;

impl Target for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn activation(&self) -> DType {
        DType::F32
    }

    fn page_tokens(&self) -> u64 {
        4
    }

    fn row_ranges(&self, most: u64) -> Vec<(u64, u64)> {
        vec![(1, most)]
    }

    fn cost(&self, kernel: &Graph) -> Result<f64, Refusal> {
        match kernel.nodes.iter().find(|node| node.op.def().collective().is_some()) {
            Some(node) => Err(Refusal(format!("{} is between ranks", node.op.name()))),
            None => Ok(work(kernel)),
        }
    }
}

/// The text of a case.
pub(crate) fn case(pass: &str, name: &str) -> String {
    let path = format!("{}/../tests/filetests/{pass}/{name}.bir", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a graph of two modules on the same random inputs; f32 may differ by 1e-5, what another order of sums does.
pub(crate) fn check_numbers(before: &Module, after: &Module, graph: &str) {
    let inputs = random_inputs(before, before.graph(graph).unwrap());
    let run = |module| Interpreter::new(module, Precision::Typed).run_ranks(graph, inputs.clone()).unwrap();
    for (before, after) in run(before).iter().flatten().zip(run(after).iter().flatten()) {
        let allowed = if before.dtype == DType::F32 { 1e-5 } else { 0.0 };
        let difference = before.difference(after);
        assert!(difference <= allowed, "@{graph}: {} differ by {difference}", before.dtype);
    }
}

/// Numbers in -2..2 for floats, 0..2 for integers; one sequence in the first page stands in every table of rows.
pub(crate) fn random_inputs(module: &Module, graph: &Graph) -> Vec<Vec<Tensor>> {
    let mut sizes: Bindings = module.mesh.axes.iter().cloned().collect();
    sizes.extend(graph.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.least.max(symbol.most.min(2)))));
    sizes.extend(graph.symbols.iter().filter(|symbol| symbol.name == "S").map(|symbol| (symbol.name.clone(), 1)));
    let mut seed = 7_u64;
    let mut number = |dtype: DType| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (seed >> 11) as f64 / (1_u64 << 53) as f64;
        if dtype.is_float() { unit * 4.0 - 2.0 } else { (unit * 2.0).floor() }
    };
    let mut tensor = |name: &str, ty: &TensorType| {
        let shape = ty.shape(&sizes).unwrap();
        let count = shape.iter().product::<usize>();
        match name {
            "rows" => Tensor::integers(&shape, [0, 2, 0]),
            "pages" => Tensor::integers(&shape, (0..count as i64).collect::<Vec<_>>()),
            _ => Tensor::new(ty.dtype, &shape, (0..count).map(|_| number(ty.dtype)).collect::<Vec<_>>()),
        }
    };
    let inputs: Vec<Vec<Tensor>> = (0..module.mesh.ranks())
        .map(|_| graph.inputs.iter().map(|input| tensor(&input.name, &input.ty)).collect())
        .collect();
    bind(graph, &inputs[0], &mut sizes).unwrap();
    inputs
}

fn simplified(name: &str) -> (Module, Module) {
    let module = parse(&case("simplify", name)).unwrap();
    let after = simplify(module.clone(), &Context { target: &Plain, entries: &[], strategy: None, inference: None }).unwrap();
    verify(&after).unwrap();
    check_numbers(&module, &after, "main");
    (module, after)
}

/// Names of operations in order.
fn ops(name: &str) -> String {
    let (_, after) = simplified(name);
    after.graphs[0].nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_rule_alone_keeps_the_numbers() {
    for rule in RULES {
        let module = parse(&case("simplify", rule.case)).unwrap();
        let forced = force(&module, std::slice::from_ref(rule));
        verify(&forced).unwrap_or_else(|error| panic!("{}: {error}", rule.name));
        assert_ne!(print(&forced), print(&module), "{} finds nothing in its case", rule.name);
        check_numbers(&module, &forced, "main");
    }
}

/// The first graph with the left side of a rule made dear wherever the rule found it, so that the right is taken.
fn force(module: &Module, rules: &'static [Rule]) -> Module {
    let graph = &module.graphs[0];
    let (body, values) = language::load(graph, &module.mesh);
    let own = body.analysis.made.len();
    let body = saturate(body, rules);
    let orders = extract::orders(&body);
    let mut cost = |term: &Term| match orders[term] {
        order if order >= own => 1.0,
        _ if extract::is_work(term) => 1e6,
        _ => 0.0,
    };
    let roots: Vec<Id> = graph.outputs.iter().map(|output| values[output.index()]).collect();
    let choice = extract::extract(&body, &roots, &mut cost);
    let rewrite = Rewrite::new(PASS.name, module, graph);
    let forced = rebuild::rebuild(rewrite, graph, &body, &values, &choice).unwrap().unwrap();
    Module { mesh: module.mesh.clone(), graphs: vec![forced], ..Module::default() }
}

#[test]
fn rules_are_named_once_and_have_reasons() {
    let names: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    assert!(RULES.iter().all(|rule| !rule.reason.is_empty()));
}

#[test]
fn takes_what_is_cheaper() {
    let expected = [
        ("scale", "scale add scale scale scale scale"),
        ("sign", "scale scale sub sub add gelu"),
        ("reshape", "reshape gelu add reshape"),
        ("transpose", "transpose gelu add transpose"),
        ("cast", "cast gelu cast cast"),
        ("broadcast", "add mul mul add"),
        ("slice", "slice gelu slice cast slice scale"),
        ("concat", "slice slice slice slice gelu"),
        ("concat-across", "concat slice"),
        ("adjoining", "slice slice gelu slice concat"),
        ("gather", "gather cast scale cast gather"),
        ("reduce", "scale reduce reduce scale"),
        ("matmul-scale", "matmul scale scale matmul matmul scale scale matmul"),
        ("matmul-sum", "add matmul gelu sub matmul matmul matmul add"),
        ("matmul-transpose", "matmul matmul matmul"),
        ("collective-sum", "matmul matmul add all_reduce matmul matmul add reduce_scatter add all_gather"),
        ("collective-scale", "matmul gelu all_reduce scale scale matmul reduce_scatter all_gather"),
        ("collective-join", "sub all_gather mul all_gather gelu all_gather cast all_gather matmul all_reduce"),
        ("collective-piece", "axis_index matmul reduce_scatter matmul piece reduce_scatter add add add cast"),
    ];
    let found: Vec<(&str, String)> = expected.iter().map(|(name, _)| (*name, ops(name))).collect();
    assert_eq!(expected.map(|(name, ops)| (name, ops.to_owned())).to_vec(), found);
}

#[test]
fn is_never_worse() {
    for rule in RULES {
        let (before, after) = simplified(rule.case);
        assert!(total(&after) < total(&before), "{}", rule.case);
    }
}

/// What all operations of the first graph cost.
fn total(module: &Module) -> f64 {
    let graph = &module.graphs[0];
    let (body, _) = language::load(graph, &module.mesh);
    let mut costs = Costs { body: &body, target: &Plain, numbers: Numbers::of(module), known: BTreeMap::new() };
    let terms: Vec<Term> = body.classes().flat_map(|class| class.nodes.clone()).collect();
    terms.iter().map(|term| costs.of(term)).sum()
}

#[test]
fn what_cannot_be_cheaper_stays_to_the_byte() {
    for name in ["unchanged", "memory", "concat-across"] {
        let (before, after) = simplified(name);
        assert_eq!(print(&after), print(&before), "{name}");
    }
}

#[test]
fn twice_is_once() {
    for rule in RULES {
        let (_, once) = simplified(rule.case);
        let twice = simplify(once.clone(), &Context { target: &Plain, entries: &[], strategy: None, inference: None }).unwrap();
        assert_eq!(print(&twice), print(&once), "{}", rule.case);
    }
}

#[test]
fn shared_values_count_once() {
    // `%0` is needed anyway, so the sum of products stays: one more product would have to be computed.
    let text = "graph @main(%x: f32[4, 8], %y: f32[4, 8], %w: f32[8, 8]) {\n  %0 = matmul %x, %w : f32[4, 8]\n  \
                %1 = matmul %y, %w : f32[4, 8]\n  %2 = add %0, %1 : f32[4, 8]\n  return %0, %1, %2\n}\n";
    let module = parse(text).unwrap();
    let after = simplify(module, &Context { target: &Plain, entries: &[], strategy: None, inference: None }).unwrap();
    assert_eq!(print(&after), text);
    assert_eq!(after.graphs[0].outputs, [3, 4, 5].map(ValueId));
}
