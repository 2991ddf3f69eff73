//! Every operation's samples through properties that hold for all operations. A new operation writes samples, not tests.

use std::collections::{BTreeMap, BTreeSet};

use bloomery_codegen::cpu::Cpu;
use bloomery_ir::interpret::evaluate;
use bloomery_ir::parse::parse_type;
use bloomery_ir::print::print;
use bloomery_ir::sharding::{Rule, WHOLE};
use bloomery_ir::{
    Bindings, Builder, DType, Mesh, Module, Op, Role, Sample, SymbolBound, Tensor, TensorType, parse, verify,
};

use bloomery_passes::certificate::certify;
use bloomery_passes::pipeline::Stage;
use bloomery_passes::{Context, pipeline};

use crate::random::Random;
use crate::sharded::strategy;

/// The value of `N`.
const ROWS: u64 = 7;

/// A module whose one graph applies the sample's operation to its inputs.
fn module(sample: &Sample) -> Module {
    let mesh = Mesh::default();
    let mut builder = Builder::new("sample", vec![SymbolBound::new("N", 1, 512)], &mesh, []);
    let inputs = sample.operands.iter().enumerate();
    let inputs: Vec<_> =
        inputs.map(|(i, ty)| builder.input(&format!("x{i}"), Role::Plain, parse_type(ty).unwrap())).collect();
    let results = builder.node(sample.op.clone(), &inputs).unwrap_or_else(|error| panic!("{:?}: {error}", sample.op));
    Module { graphs: vec![builder.finish(&results)], mesh: mesh.clone(), ..Module::default() }
}

/// Operands of a sample: literal ones as given, others random.
fn operands(sample: &Sample, seed: u64) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    let names = Bindings::from([("N".to_owned(), ROWS)]);
    let operand = |(i, text): (usize, &&str)| {
        let ty: TensorType = parse_type(text).unwrap();
        match sample.fixed.iter().find(|(fixed, _)| *fixed == i) {
            Some((_, values)) => Tensor::new(ty.dtype, &ty.shape(&names).unwrap(), values.iter().copied()),
            None => random.tensor(&ty, &names, sample.reals, sample.integers),
        }
    };
    sample.operands.iter().enumerate().map(operand).collect()
}

#[test]
fn every_sample_prints_and_parses() {
    for sample in Op::samples() {
        let module = module(&sample);
        verify(&module).unwrap();
        let text = print(&module);
        let read = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(read == module, "{text}");
        assert_eq!(print(&read), text);
    }
}

#[test]
fn every_samples_result_has_the_inferred_type() {
    let names = Bindings::from([("N".to_owned(), ROWS)]);
    for (seed, sample) in Op::samples().iter().enumerate() {
        let module = module(sample);
        let graph = &module.graphs[0];
        let operands = operands(sample, seed as u64);
        let operands: Vec<&Tensor> = operands.iter().collect();
        let results = evaluate(&sample.op, &operands, &graph.types_of(&graph.outputs), &names);
        let expect: Vec<(DType, Vec<usize>)> =
            graph.types_of(&graph.outputs).iter().map(|ty| (ty.dtype, ty.shape(&names).unwrap())).collect();
        let found: Vec<(DType, Vec<usize>)> =
            results.iter().map(|tensor| (tensor.dtype, tensor.shape.clone())).collect();
        assert_eq!(found, expect, "{}", print(&module));
        for result in &results {
            assert_eq!(result.data.len(), result.shape.iter().product::<usize>(), "{}", print(&module));
            assert!(result.data.iter().all(|value| value.is_finite()), "{}", print(&module));
            assert!(*result == result.clone().rounded(), "{}", print(&module));
        }
    }
}

/// For each letter of an operation's rule: ranks that each have a slice of the dimensions it stands for compute together what
/// one computes, once slices are joined and owed sums paid.
#[test]
fn every_sample_can_be_shared_along_its_letters() {
    let mut shared = BTreeMap::new();
    for (seed, sample) in Op::samples().iter().enumerate() {
        let whole = module(sample);
        let types: Vec<TensorType> = whole.graphs[0].inputs.iter().map(|input| input.ty.clone()).collect();
        let Some(rule) = Rule::of(sample.op.def(), &types) else { continue };
        // A run learns what names are from the shapes of inputs.
        let named = |ty: &TensorType| ty.extents().flat_map(|extent| extent.names()).count() > 0;
        if whole.graphs[0].types.iter().any(named) && !types.iter().any(named) {
            continue;
        }
        let letters: BTreeSet<&String> = rule.operands.iter().flatten().filter(|letter| *letter != WHOLE).collect();
        for letter in letters {
            let mut named = whole.clone();
            let mut extents = Vec::new();
            for (letters, input) in rule.operands.iter().zip(&mut named.graphs[0].inputs) {
                for (_, dim) in letters.iter().zip(&mut input.ty.dims).filter(|(other, _)| *other == letter) {
                    dim.logical = Some("shared".to_owned());
                    extents.push(dim.extent.as_number());
                }
            }
            let divides = |ranks: &u64| extents.iter().all(|extent| extent.is_some_and(|extent| extent % ranks == 0));
            let Some(ranks) = [2, 3, 5].into_iter().find(divides) else { continue };
            let types = named.graphs[0].inputs.iter().map(|input| input.ty.clone()).collect::<Vec<_>>();
            named.graphs[0].types.splice(..types.len(), types);
            let strategy = strategy(&[("m", ranks)], &[("shared", "m")]);
            let cx = Context { target: &Cpu, entries: &[], strategy: Some(&strategy), inference: None };
            let stage = pipeline::run_named(named, &cx, &["shard", "partition"], &mut |_, _| {});
            let Ok(Stage::Module(divided)) = stage else { panic!("{}, {letter}: {stage:?}", print(&whole)) };
            let operands = operands(sample, seed as u64);
            let certificate = certify(&whole, &divided, &[("sample", operands)]);
            certificate.unwrap_or_else(|error| panic!("{letter}: {error}\n{}", print(&divided)));
            *shared.entry(sample.op.name()).or_insert(0) += 1;
        }
    }
    let some = [
        "add",
        "gelu",
        "matmul",
        "gather",
        "layer_norm",
        "alibi_attention",
        "cache_append",
        "reshape",
        "slice",
        "broadcast",
    ];
    assert!(some.iter().all(|name| shared.contains_key(name)), "{shared:?}");
    assert!(shared.values().sum::<i32>() > 30, "{shared:?}");
}

/// Operations whose samples need more than one graph or rank; `filetests` runs them.
#[test]
fn every_operation_has_samples() {
    let elsewhere =
        ["all_reduce", "all_gather", "reduce_scatter", "axis_index", "repeat", "call", "gather_part", "scatter"];
    let sampled: Vec<&str> = Op::samples().iter().map(|sample| sample.op.name()).collect();
    let without: Vec<&str> = Op::NAMES.iter().copied().filter(|name| !sampled.contains(name)).collect();
    assert_eq!(without, elsewhere);
}
