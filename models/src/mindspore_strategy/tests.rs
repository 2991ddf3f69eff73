//! Against what MindSpore's own compiler wrote, and what follows from the settings.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::sizes;

fn small(layers: usize) -> BloomConfig {
    BloomConfig { hidden: 16, layers, heads: 8, vocab: 32, ..sizes::by_name("560m").unwrap() }
}

fn read(strategy: &str) -> Strategy {
    strategy.parse().unwrap()
}

fn expected(folder: &str) -> Value {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mindspore");
    serde_json::from_slice(&std::fs::read(fixtures.join(folder).join("expected.json")).unwrap()).unwrap()
}

type Sorted = BTreeMap<String, Value>;

/// Parameters as `expected.json` has them.
fn parameters(stage: &Stage) -> Sorted {
    let said = |parameter: &Parameter| {
        let map: Vec<i64> = parameter.cuts.iter().map(|cut| cut.map_or(-1, i64::from)).collect();
        let shard = parameter.optimizer_step.map_or(json!([0, 0]), |step| json!([step, -1]));
        (parameter.name.clone(), json!({ "dev_matrix": parameter.devices, "tensor_map": [map], "opt": shard }))
    };
    let sorted: Sorted = stage.parameters.iter().map(said).collect();
    assert_eq!(sorted.len(), stage.parameters.len(), "no name is there twice");
    sorted
}

fn operators(stage: &Stage, number: usize) -> Sorted {
    let said = |operator: &Operator| (operator.name.clone(), json!([operator.name, number, operator.inputs]));
    stage.operators.iter().map(said).collect()
}

fn expected_parameters(stage: &Value) -> Sorted {
    serde_json::from_value(stage["layouts"].clone()).unwrap()
}

#[test]
fn mindformers_bloom_lies_where_mindspore_puts_it() {
    for (folder, strategy) in [
        ("mindformers/dp2-mp2-opt", "dp=2,mp=2,vocab_emb_dp=true,optimizer_shard=true"),
        ("mindformers/dp2-mp2-pp2-opt", "dp=2,mp=2,pp=2,stages=mindformers,optimizer_shard=true"),
        ("mindformers/mp4-pp2", "mp=4,pp=2,vocab_emb_dp=true,optimizer_shard=true"),
    ] {
        let expected = expected(folder);
        let made = stages(&small(2), &read(strategy), 4, 0);
        assert_eq!(made.len(), expected["stages"].as_object().unwrap().len(), "{folder}");
        for (number, stage) in made.iter().enumerate() {
            let expected = &expected["stages"][number.to_string()];
            assert_eq!(parameters(stage), expected_parameters(expected), "{folder} {number}");
            let named = |operator: &Value| (operator[0].as_str().unwrap().to_owned(), operator.clone());
            let sorted: Sorted = expected["operators"].as_array().unwrap().iter().map(named).collect();
            assert_eq!(operators(stage, number), sorted, "{folder} {number}");
        }
    }
}

/// MindSpore 2.10 on a network of the same shape, whose norm of the embedding is cut like any; `mp8` without an optimizer.
#[test]
fn other_arrangements_agree_too() {
    for (folder, strategy) in [
        ("compiler/mp2", "mp=2,vocab_emb_dp=true"),
        ("compiler/mp8", "mp=8,vocab_emb_dp=true"),
        ("compiler/dp2-mp2", "dp=2,mp=2,vocab_emb_dp=true"),
    ] {
        let made = stages(&small(2), &read(strategy), 4, 0);
        let [mut made, mut expected] = [parameters(&made[0]), expected_parameters(&expected(folder)["stages"]["0"])];
        made.retain(|name, _| expected.contains_key(name) || !name.starts_with("adam_"));
        for sorted in [&mut made, &mut expected] {
            sorted.retain(|name, _| !name.contains("embedding.norm"));
        }
        assert_eq!(made, expected, "{folder}");
    }
}

fn found<'a>(stage: &'a Stage, name: &str) -> Option<&'a Parameter> {
    stage.parameters.iter().find(|parameter| parameter.name == name)
}

#[test]
fn layers_are_dealt_out_as_the_strategy_says() {
    let first_of = |strategy: &str, layers: usize| {
        let made = stages(&small(layers), &read(strategy), 2, SHARED_FROM);
        let holds = |stage: &Stage| {
            (0..layers).filter(|layer| found(stage, &format!("blocks.{layer}.layernorm1.gamma")).is_some()).count()
        };
        made.iter().map(holds).collect::<Vec<_>>()
    };
    assert_eq!(first_of("pp=12,stages=mindformers", 80), [[6; 11].as_slice(), &[14]].concat());
    assert_eq!(first_of("pp=3", 5), [2, 2, 1]);
    assert_eq!(first_of("pp=3,stages=1:3:1", 5), [1, 3, 1]);
    let middle = &stages(&small(5), &read("pp=3"), 2, SHARED_FROM)[1];
    assert!(found(middle, TABLE).is_none() && found(middle, "ln_f.gamma").is_none());
    assert!(found(middle, "accu_grads.blocks.3.output.projection.bias").is_some());
    assert_eq!(middle.operators[0].name, "Receive_blocks.2.layernorm1.gamma");
}

#[test]
fn tables_are_whole_where_ranks_cannot_or_shall_not_cut_them() {
    let check = |vocab: usize, strategy: &str, cut: Option<u32>| {
        let made = stages(&BloomConfig { vocab, ..small(2) }, &read(strategy), 2, SHARED_FROM);
        let table = found(&made[0], TABLE).unwrap();
        assert_eq!((table.cuts.clone(), table.optimizer_step), (vec![cut, None], None), "{vocab} {strategy}");
    };
    check(32, "mp=4", Some(0));
    check(32, "mp=4,vocab_emb_dp=true", None);
    check(33, "mp=4", None);
    // With stages MindFormers cuts it in any case.
    check(32, "mp=4,pp=2,vocab_emb_dp=true", Some(0));
    check(33, "mp=4,pp=2", None);
    check(32, "dp=2", None);
}

#[test]
fn the_optimizer_shares_what_is_large_and_divides() {
    let check = |hidden: usize, element: usize, strategy: &str, expect: Option<u32>| {
        let config = BloomConfig { hidden, ..small(1) };
        let made = stages(&config, &read(strategy), element, SHARED_FROM);
        let step = found(&made[0], "blocks.0.attention.dense1.weight").unwrap().optimizer_step;
        assert_eq!(step, expect, "{hidden} {element} {strategy}");
        assert_eq!(found(&made[0], "adam_v.blocks.0.attention.dense1.weight").unwrap().optimizer_step, expect);
    };
    check(128, 4, "dp=2,mp=4,optimizer_shard=true", Some(4));
    check(128, 4, "dp=2,optimizer_shard=true", Some(1));
    check(128, 4, "dp=2,mp=4", None);
    check(128, 4, "mp=4,optimizer_shard=true", None);
    check(120, 4, "dp=2,optimizer_shard=true", None);
    check(128, 2, "dp=2,optimizer_shard=true", None);
    check(184, 2, "dp=2,optimizer_shard=true", Some(1));
    check(184, 2, "dp=3,optimizer_shard=true", None);
    check(184, 2, "dp=4,mp=4,optimizer_shard=true", None);
}

/// One rank is `[1]`, and nothing of it is cut.
#[test]
fn one_rank_holds_everything() {
    let made = stages(&small(2), &Strategy::default(), 2, SHARED_FROM);
    assert!(made[0].parameters.iter().all(|p| p.devices == [1] && p.cuts.iter().all(Option::is_none)));
}
