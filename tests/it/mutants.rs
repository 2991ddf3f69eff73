//! Divided graphs with one mistake each: the certificate must catch every one.
//!
//! A mistake is made at every place where it can be, and types are inferred anew after it, so that what is left to
//! find is what types do not say. It is caught by an operation that refuses its operands, by the verifier, by a run that
//! fails, or by a rank that differs.

use std::collections::BTreeMap;

use bloomery_ir::graph::Role;
use bloomery_ir::ops::all_gather::AllGather;
use bloomery_ir::ops::all_reduce::AllReduce;
use bloomery_ir::ops::axis_index::AxisIndex;
use bloomery_ir::ops::constant::Constant;
use bloomery_ir::ops::gather::Gather;
use bloomery_ir::ops::piece::Piece;
use bloomery_ir::ops::reduce_scatter::ReduceScatter;
use bloomery_ir::ops::scale::Scale;
use bloomery_ir::ops::slice::Slice;
use bloomery_ir::print::print;
use bloomery_ir::{Builder, DType, Extent, Graph, Module, Op, TypeError, ValueId, parse};
use bloomery_passes::{Stages, Strategy};

use crate::sharded::{certified, divided, megatron, megatron_in_stages, model, sequence_parallel, strategy};

/// A node that is about to be built again: its operation and operands, which a mistake changes.
struct Site<'a, 'b> {
    builder: &'a mut Builder<'b>,
    op: Op,
    operands: Vec<ValueId>,
    /// Axes of the mesh.
    axes: &'a [String],
    /// Parameters of the graph.
    parameters: &'a [ValueId],
}

/// What stands for the node's first result instead, or what is built in its place.
enum Instead {
    Value(ValueId),
    Node(Op, Vec<ValueId>),
}

type Made = Result<Option<Instead>, TypeError>;

/// A kind of mistake in a graph: what it makes of a node, if it can be made there.
struct Mistake {
    name: &'static str,
    make: fn(&mut Site<'_, '_>) -> Made,
}

fn node(op: impl Into<Op>, operands: &[ValueId]) -> Made {
    Ok(Some(Instead::Node(op.into(), operands.to_vec())))
}

fn value(value: ValueId) -> Made {
    Ok(Some(Instead::Value(value)))
}

impl Site<'_, '_> {
    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.op.name())
    }

    /// Whether it pays a sum that is owed.
    fn pays(&self) -> bool {
        self.is(&["all_reduce", "reduce_scatter"])
    }

    /// Another axis of the mesh.
    fn other(&self, axis: &str) -> Option<String> {
        self.axes.iter().find(|other| *other != axis).cloned()
    }

    /// The node itself, and then another operation on its result.
    fn then(&mut self, op: impl Into<Op>) -> Made {
        let result = self.builder.node(self.op.clone(), &self.operands)?[0];
        node(op, &[result])
    }
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "a collective left out",
        make: |s| if s.op.def().collective().is_some() { value(s.operands[0]) } else { Ok(None) },
    },
    Mistake {
        name: "a sum paid twice",
        make: |s| match s.op.clone() {
            Op::AllReduce(op) => s.then(op),
            Op::ReduceScatter(op) => s.then(op),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a sum paid over another axis",
        make: |s| match s.op.clone() {
            Op::AllReduce(AllReduce { over }) => match s.other(&over) {
                Some(over) => node(AllReduce { over }, &s.operands),
                None => Ok(None),
            },
            Op::ReduceScatter(ReduceScatter { over, dim }) => match s.other(&over) {
                Some(over) => node(ReduceScatter { over, dim }, &s.operands),
                None => Ok(None),
            },
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a sum scattered instead of shared",
        make: |s| match s.op.clone() {
            Op::AllReduce(AllReduce { over }) => node(ReduceScatter { over, dim: 1 }, &s.operands),
            _ => Ok(None),
        },
    },
    Mistake { name: "a sum taken for a mean", make: |s| if s.pays() { s.then(Scale { by: 0.5 }) } else { Ok(None) } },
    Mistake {
        name: "a sum shared instead of scattered",
        make: |s| match s.op.clone() {
            Op::ReduceScatter(ReduceScatter { over, .. }) => node(AllReduce { over }, &s.operands),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a sum scattered along another dimension",
        make: |s| match s.op.clone() {
            Op::ReduceScatter(ReduceScatter { over, dim }) => node(ReduceScatter { over, dim: 1 - dim }, &s.operands),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a rank's own part taken for its slice of the sum",
        make: |s| match s.op.clone() {
            Op::ReduceScatter(ReduceScatter { over, dim }) => {
                let size = s.builder.ty(s.operands[0]).dims[dim].extent.over(&over);
                let place = s.builder.one(AxisIndex { axis: over }, &[])?;
                node(Piece { dim, size }, &[s.operands[0], place])
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "the first slice of a sum for every rank",
        make: |s| match s.op.clone() {
            // The sum is right, and types are; the slices are not.
            Op::ReduceScatter(ReduceScatter { over, dim }) => {
                let size = s.builder.ty(s.operands[0]).dims[dim].extent.over(&over);
                let sum = s.builder.one(AllReduce { over }, &s.operands)?;
                let first = Constant { dtype: DType::I32, shape: vec![1], values: vec![0.0] };
                let first = s.builder.one(first, &[])?;
                node(Piece { dim, size }, &[sum, first])
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "slices joined along another dimension",
        make: |s| match s.op.clone() {
            Op::AllGather(AllGather { over, dim }) => node(AllGather { over, dim: 1 - dim }, &s.operands),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "slices joined over another axis",
        make: |s| match s.op.clone() {
            Op::AllGather(AllGather { over, dim }) => match s.other(&over) {
                Some(over) => node(AllGather { over, dim }, &s.operands),
                None => Ok(None),
            },
            _ => Ok(None),
        },
    },
    Mistake {
        name: "every rank takes the first place",
        make: |s| match &s.op {
            Op::AxisIndex(_) => node(Constant { dtype: DType::I32, shape: vec![1], values: vec![0.0] }, &[]),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a place along another axis",
        make: |s| match s.op.clone() {
            Op::AxisIndex(AxisIndex { axis }) => match s.other(&axis) {
                Some(axis) => node(AxisIndex { axis }, &[]),
                None => Ok(None),
            },
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a whole value where a piece belongs",
        make: |s| if s.is(&["piece"]) { value(s.operands[0]) } else { Ok(None) },
    },
    Mistake {
        name: "pieces of half the size",
        make: |s| match s.op.clone() {
            // `4/mp` of four slopes; tokens have no number.
            Op::Piece(mut op) if op.size.to_string().contains(['4', '6']) => {
                let half = op.size.to_string().replacen('4', "2", 1).replacen('6', "3", 1);
                op.size = half.parse::<Extent>().expect("an extent");
                node(op, &s.operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "zeros taken for values",
        make: |s| if s.is(&["slice"]) { value(s.operands[0]) } else { Ok(None) },
    },
    Mistake {
        name: "values cut off, and a zero kept",
        make: |s| match s.op.clone() {
            Op::Slice(Slice { dim, from, to }) => node(Slice { dim, from: from + 1, to: to + 1 }, &s.operands),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "rows of a shared table looked for as in a whole one",
        make: |s| match s.op.clone() {
            Op::GatherPart(_) => node(Gather, &s.operands[..2]),
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a bias added on every rank",
        make: |s| match s.op.clone() {
            // What follows a sum owed goes before it, as it would without types that say what is owed.
            op if s.pays() => match s.parameters.iter().copied().find(|p| s.builder.ty(*p).rank() == 1) {
                Some(bias) => {
                    let part = s.builder.one(bloomery_ir::ops::add::Add, &[s.operands[0], bias])?;
                    node(op, &[part])
                }
                None => Ok(None),
            },
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a bias added once more after the sum",
        make: |s| {
            let width = |s: &Site<'_, '_>, p: ValueId| s.builder.ty(p).dims[0].extent.clone();
            if !s.pays() {
                return Ok(None);
            }
            let result = s.builder.node(s.op.clone(), &s.operands)?[0];
            let last = s.builder.ty(result).dims[1].extent.clone();
            match s.parameters.iter().copied().find(|p| s.builder.ty(*p).rank() == 1 && width(s, *p) == last) {
                Some(bias) => node(bloomery_ir::ops::add::Add, &[result, bias]),
                None => Ok(None),
            }
        },
    },
    Mistake {
        name: "another weight of the same type",
        make: |s| {
            if !s.is(&["matmul"]) {
                return Ok(None);
            }
            let (left, right) = (s.operands[0], s.operands[1]);
            let same = |p: &&ValueId| **p != right && s.builder.ty(**p) == s.builder.ty(right);
            match s.parameters.iter().find(same) {
                Some(other) => node(s.op.clone(), &[left, *other]),
                None => Ok(None),
            }
        },
    },
    Mistake {
        name: "the first term of a sum left out",
        make: |s| if s.is(&["add"]) { value(s.operands[1]) } else { Ok(None) },
    },
    Mistake {
        name: "the second term of a sum left out",
        make: |s| if s.is(&["add"]) { value(s.operands[0]) } else { Ok(None) },
    },
    Mistake {
        name: "a term added twice",
        make: |s| match s.op.clone() {
            Op::Add(op) => {
                let added = s.operands[0];
                let twice = s.builder.node(op.clone(), &s.operands)?[0];
                if s.builder.ty(added) == s.builder.ty(twice) { node(op, &[twice, added]) } else { Ok(None) }
            }
            _ => Ok(None),
        },
    },
    Mistake { name: "an activation left out", make: |s| if s.is(&["gelu"]) { value(s.operands[0]) } else { Ok(None) } },
    Mistake { name: "a norm left out", make: |s| if s.is(&["layer_norm"]) { value(s.operands[0]) } else { Ok(None) } },
    Mistake {
        name: "a norm of another epsilon",
        make: |s| match s.op.clone() {
            Op::LayerNorm(mut op) => {
                op.epsilon *= 10.0;
                node(op, &s.operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "attention of another scale",
        make: |s| match s.op.clone() {
            Op::AlibiAttention(mut op) => {
                op.scale *= 2.0;
                node(op, &s.operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "keys where queries belong",
        make: |s| match s.op.clone() {
            Op::CacheAppend(op) => {
                let mut operands = s.operands.clone();
                operands[1] = operands[2];
                node(op, &operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "keys and values exchanged",
        make: |s| match s.op.clone() {
            Op::CacheAppend(op) => {
                let mut operands = s.operands.clone();
                operands.swap(1, 2);
                node(op, &operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "layers from the last to the first",
        make: |s| match s.op.clone() {
            Op::Repeat(mut op) if op.count() > 1 => {
                op.reverse = true;
                node(op, &s.operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "a layer left out",
        make: |s| match s.op.clone() {
            Op::Repeat(mut op) => {
                op.from += 1;
                node(op, &s.operands)
            }
            _ => Ok(None),
        },
    },
    Mistake {
        name: "weights of two names exchanged",
        make: |s| match s.op.clone() {
            Op::Repeat(op) => {
                let sliced = op.carry..op.carry + op.slice;
                let pairs = sliced.clone().flat_map(|i| (i + 1..sliced.end).map(move |j| (i, j)));
                let same = |(i, j): &(usize, usize)| s.builder.ty(s.operands[*i]) == s.builder.ty(s.operands[*j]);
                let Some((i, j)) = pairs.into_iter().find(same) else { return Ok(None) };
                let mut operands = s.operands.clone();
                operands.swap(i, j);
                node(op, &operands)
            }
            _ => Ok(None),
        },
    },
];

/// The module with a mistake at the `place`-th node of a graph; `None` when it cannot be made there.
fn mutant(module: &Module, graph: usize, place: usize, mistake: &Mistake) -> Option<Result<Module, TypeError>> {
    let old = &module.graphs[graph];
    let callees: Vec<&Graph> = module.graphs.iter().collect();
    let mut builder = Builder::new(&old.name, old.symbols.clone(), &module.mesh, callees);
    let mut values: Vec<ValueId> =
        old.inputs.iter().map(|input| builder.input(&input.name, input.role, input.ty.clone())).collect();
    let parameters = old.inputs.iter().zip(&values).filter(|(input, _)| input.role == Role::Parameter);
    let parameters: Vec<ValueId> = parameters.map(|(_, value)| *value).collect();
    let axes: Vec<String> = module.mesh.axes.iter().map(|(axis, _)| axis.clone()).collect();
    for (i, node) in old.nodes.iter().enumerate() {
        let operands: Vec<ValueId> = node.operands.iter().map(|operand| values[operand.index()]).collect();
        let built = if i == place {
            let mut site = Site {
                builder: &mut builder,
                op: node.op.clone(),
                operands: operands.clone(),
                axes: &axes,
                parameters: &parameters,
            };
            match (mistake.make)(&mut site) {
                Ok(None) => return None,
                Ok(Some(Instead::Value(value))) => Ok(vec![value]),
                Ok(Some(Instead::Node(op, operands))) => builder.node(op, &operands),
                Err(error) => Err(error),
            }
        } else {
            builder.node(node.op.clone(), &operands)
        };
        match built {
            Ok(results) => values.extend(results),
            Err(error) => return Some(Err(error)),
        }
    }
    let outputs: Vec<ValueId> = old.outputs.iter().map(|output| values[output.index()]).collect();
    let mut changed = module.clone();
    changed.graphs[graph] = builder.finish(&outputs);
    Some(Ok(changed))
}

fn strategies() -> [(&'static str, Strategy); 10] {
    [
        ("tiny", megatron_in_stages()),
        ("tiny-eps", Strategy { stages: Stages::Layers(vec![1, 2]), ..strategy(&[("pp", 2)], &[]) }),
        ("tiny", megatron(2)),
        ("tiny", megatron(4)),
        ("tiny", strategy(&[("a", 2), ("b", 2)], &[("heads", "a"), ("ffn", "b"), ("vocab", "b")])),
        ("tiny-untied", megatron(2)),
        ("tiny", sequence_parallel(2)),
        ("tiny", strategy(&[("mp", 4)], &[("heads", "mp"), ("tokens", "mp")])),
        ("tiny", strategy(&[("a", 2), ("b", 2)], &[("heads", "a"), ("ffn", "b"), ("tokens", "a"), ("vocab", "b")])),
        ("tiny-nonpow2", megatron(3)),
    ]
}

#[test]
fn every_mistake_in_a_graph_is_caught() {
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    for (fixture, strategy) in strategies() {
        let model = model(fixture);
        let module = divided(&model, &strategy).unwrap();
        certified(&model, &module, 3).unwrap();
        for mistake in MISTAKES {
            for (i, graph) in module.graphs.iter().enumerate() {
                for place in 0..graph.nodes.len() {
                    let Some(mutant) = mutant(&module, i, place, mistake) else { continue };
                    *made.entry(mistake.name).or_default() += 1;
                    let caught = mutant.map_or(true, |mutant| certified(&model, &mutant, 3).is_err());
                    let (op, mesh) = (graph.nodes[place].op.name(), &strategy.mesh.axes);
                    assert!(caught, "{fixture} on {mesh:?}, @{}, node {place} ({op}): {}", graph.name, mistake.name);
                }
            }
        }
    }
    let never: Vec<&str> =
        MISTAKES.iter().map(|mistake| mistake.name).filter(|name| !made.contains_key(name)).collect();
    assert!(never.is_empty(), "mistakes that were made nowhere: {never:?}");
    assert!(made.values().sum::<usize>() > 250, "{made:?}");
}

/// Zeros before a shared table's rows, or in their midst, instead of after them: every rank has others then.
#[test]
fn zeros_at_another_place_are_caught() {
    let model = model("tiny-nonpow2");
    let module = divided(&model, &megatron(3)).unwrap();
    certified(&model, &module, 3).unwrap();
    let mutant = |text: &str, instead: &str| {
        let printed = print(&module);
        assert!(printed.contains(text), "{printed}");
        parse(&printed.replace(text, instead)).unwrap()
    };
    let end = "concat %word_embeddings.weight, %1 {dim = 0} : f32[258, 96]";
    let front = "concat %1, %word_embeddings.weight {dim = 0} : f32[258, 96]";
    let midst = "slice %word_embeddings.weight {dim = 0, from = 0, to = 5} : f32[5, 96]
        %3 = slice %word_embeddings.weight {dim = 0, from = 5, to = 256} : f32[251, 96]
        %4 = concat %2, %1, %3 {dim = 0} : f32[258, 96]";
    for mutant in [mutant(end, front), mutant(&format!("{end}\n  return %2"), &format!("{midst}\n  return %4"))] {
        assert!(certified(&model, &mutant, 3).is_err(), "{}", print(&mutant));
    }
}

/// What is done to the table; it gets the last stage's number.
type TableMistake = fn(&mut Module, usize);

/// Stages in another order, with other layers, with others' graphs, with fewer or more of them.
#[test]
fn every_mistake_in_the_table_of_stages_is_caught() {
    let model = model("tiny-eps");
    for layers in [vec![1, 1, 1], vec![2, 1], vec![1, 2]] {
        let mesh = strategy(&[("pp", layers.len() as u64)], &[]);
        let module = divided(&model, &Strategy { stages: Stages::Layers(layers.clone()), ..mesh }).unwrap();
        certified(&model, &module, 3).unwrap();
        let last = layers.len() - 1;
        let mistakes: [(&str, TableMistake); 9] = [
            ("stages change places", |module, last| module.stages.swap(0, last)),
            ("stages change layers", |module, last| {
                let first = module.stages[0].layers.clone();
                module.stages[0].layers = std::mem::replace(&mut module.stages[last].layers, first);
            }),
            ("a stage runs another's graph", |module, last| {
                module.stages[0].parts[0].graph = module.stages[last].parts[0].graph.clone();
            }),
            ("the last runs the first's graph", |module, last| {
                module.stages[last].parts[0].graph = module.stages[0].parts[0].graph.clone();
            }),
            ("a stage does nothing", |module, _| module.stages[0].parts.clear()),
            ("a stage is missing", |module, last| drop(module.stages.remove(last))),
            ("a stage is there twice", |module, last| module.stages.push(module.stages[last].clone())),
            ("layers overlap", |module, last| module.stages[last].layers.start -= 1),
            ("the head is nobody's", |module, last| drop(module.stages[last].parts.pop())),
        ];
        for (name, make) in mistakes {
            let mut mutant = module.clone();
            make(&mut mutant, last);
            assert!(certified(&model, &mutant, 3).is_err(), "{layers:?}: {name}");
        }
    }
}
