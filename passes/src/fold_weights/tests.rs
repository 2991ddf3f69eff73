//! Every rule by itself on its case, then the pass on all cases: the same numbers, from weights evaluated beforehand.

use super::*;
use crate::pass::Unseen;
use crate::simplify::tests::{Plain, case, random_inputs};
use bloomery_ir::pieces::{Cut, Pieces};
use bloomery_ir::print::print;
use bloomery_ir::run_program::pack;
use bloomery_ir::{DType, Interpreter, Layout, Precision, Strided, Tensor, parse, verify};

fn context() -> Context<'static> {
    Context { target: &Plain, entries: &[], strategy: None, inference: Some(&Unseen) }
}

fn stored(tensor: &Tensor) -> Strided<'static> {
    let mut bytes = vec![0; Layout::RowMajor.bytes(&tensor.shape, tensor.dtype) as usize];
    pack(&Layout::RowMajor, tensor, &mut bytes);
    Strided::made(bytes, tensor.dtype, tensor.shape.clone())
}

/// A weight graph's result from the tensors of these names, whole or layer by layer.
fn made(graph: &Graph, given: &(dyn Fn(&str) -> Tensor + Sync), layers: Option<usize>) -> Tensor {
    let ty = graph.ty(graph.outputs[0]);
    let one = |layer: Option<usize>| {
        let part = |i: usize, cut: Option<Cut>| {
            let whole = given(&graph.inputs[i].name);
            let whole = stored(&layer.map_or(whole.clone(), |layer| whole.layer(layer)));
            cut.map_or(whole.clone(), |cut| whole.range(cut.dim, cut.range))
        };
        Pieces::new(graph, part).piece(None).tensor(ty.dtype)
    };
    let Some(count) = layers else { return one(None) };
    let layers: Vec<Tensor> = (0..count).map(|layer| one(Some(layer))).collect();
    let shape = [&[count], &layers[0].shape[..]].concat();
    Tensor { dtype: ty.dtype, shape, data: layers.into_iter().flat_map(|layer| layer.data).collect() }
}

/// Runs the first graph of both modules; caches may hold other keys and values, everything else may not differ.
fn check_numbers(before: &Module, after: &Module) {
    let (old, new) = (&before.graphs[0], &after.graphs[0]);
    let inputs = random_inputs(before, old).remove(0);
    let given = |name: &str| inputs[old.input(name).unwrap_or_else(|| panic!("no input {name}")).index()].clone();
    let value = |input: &bloomery_ir::Input| match after.weight(&input.name) {
        Some(graph) => {
            let stacked = input.ty.rank() > graph.ty(graph.outputs[0]).rank();
            made(graph, &given, stacked.then(|| input.ty.dims[0].extent.as_number().unwrap() as usize))
        }
        None => given(&input.name),
    };
    let changed: Vec<Tensor> = new.inputs.iter().map(value).collect();
    let run = |module, name: &str, inputs: &[Tensor]| Interpreter::new(module, Precision::Typed).run(name, inputs).unwrap();
    let (expected, found) = (run(before, &old.name, &inputs), run(after, &new.name, &changed));
    let caches = |ty: &bloomery_ir::TensorType| ty.rank() >= 5;
    for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert_eq!(expected.shape, found.shape);
        if !caches(old.ty(old.outputs[i])) {
            let largest = expected.data.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
            let difference = expected.difference(found);
            assert!(difference <= 2e-6 * largest, "output {i}: {difference} of {largest}\n{}", print(after));
        }
    }
}

fn folded(module: &Module) -> Module {
    let folded = fold_weights(module.clone(), &context()).unwrap();
    verify(&folded).unwrap_or_else(|error| panic!("{error}\n{}", print(&folded)));
    folded
}

fn cases() -> Vec<String> {
    let folder = format!("{}/../tests/filetests/fold-weights", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let cases = files.filter(|path| path.extension().is_some_and(|extension| extension == "bir"));
    let mut names: Vec<String> = cases.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn each_rule_alone_keeps_the_numbers() {
    for rule in RULES {
        let module = parse(&case("fold-weights", rule.case)).unwrap();
        let cx = context();
        // What a rule needs others to do first is done: those before it in the list that its case is not for.
        let mut graph = module.graphs[0].clone();
        let site = |graph: &Graph| {
            let found = (rule.apply)(&Site::new(&module, 0, graph, &cx, &Unseen)).unwrap();
            found.map(|graph| clean_graph(&module, &graph).unwrap())
        };
        let mut changed = site(&graph);
        for earlier in RULES.iter().filter(|earlier| earlier.case == rule.case) {
            if changed.is_some() {
                break;
            }
            let before = Site::new(&module, 0, &graph, &cx, &Unseen);
            let next = (earlier.apply)(&before).unwrap().unwrap_or_else(|| graph.clone());
            graph = clean_graph(&module, &next).unwrap();
            changed = site(&graph);
        }
        let changed = changed.unwrap_or_else(|| panic!("{} finds nothing in its case", rule.name));
        let after = Module { graphs: vec![changed], ..module.clone() };
        verify(&after).unwrap_or_else(|error| panic!("{}: {error}", rule.name));
        assert_ne!(print(&after), print(&module), "{}", rule.name);
        check_numbers(&module, &after);
    }
}

#[test]
fn rules_are_named_once_and_have_reasons() {
    let names: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    assert!(RULES.iter().all(|rule| !rule.reason.is_empty()));
}

#[test]
fn every_case_keeps_its_numbers_and_is_folded_once() {
    let cases = cases();
    assert!(cases.len() > 10);
    for name in cases.iter().filter(|name| *name != "larger") {
        let module = parse(&case("fold-weights", name)).unwrap();
        let once = folded(&module);
        check_numbers(&module, &once);
        assert_eq!(print(&folded(&once)), print(&once), "{name}");
    }
}

#[test]
fn a_layer_has_one_product_for_queries_keys_and_values() {
    let ops = |name: &str| {
        let folded = folded(&parse(&case("fold-weights", name)).unwrap());
        let ops: Vec<&str> = folded.graph("block").unwrap().nodes.iter().map(|node| node.op.name()).collect();
        ops.join(" ")
    };
    let half = "layer_norm matmul add slice reshape slice reshape slice reshape cache_append alibi_attention matmul add add";
    assert_eq!(ops("block-f16"), half);
    assert_eq!(ops("block-f32"), half);
}

#[test]
fn scales_are_left_alone_where_a_weight_would_lose_digits() {
    struct Never;
    impl Weights for Never {
        fn scales_exactly(&self, _: &str, _: DType, _: f64) -> bool {
            false
        }
    }
    let module = parse(&case("fold-weights", "query-scale")).unwrap();
    let cx = Context { inference: Some(&Never), ..context() };
    assert_eq!(print(&fold_weights(module.clone(), &cx).unwrap()), print(&module));
}

#[test]
fn weights_that_are_trained_stay() {
    for name in cases() {
        let module = parse(&case("fold-weights", &name)).unwrap();
        let cx = Context { inference: None, ..context() };
        assert_eq!(fold_weights(module.clone(), &cx).unwrap(), module, "{name}");
    }
}

#[test]
fn weights_of_ranks_stay() {
    let text = "mesh @m = [mp=2]\n\ngraph @main<N: 1..4>(%x: f32[N, 4], param %w: f32[4, 2]) {\n  \
                %0 = scale %w {by = 2.0} : f32[4, 2]\n  %1 = matmul %x, %0 : f32[N, 2]\n  return %1\n}\n";
    assert_eq!(print(&fold_weights(parse(text).unwrap(), &context()).unwrap()), text);
}
