//! How each weight will lie in memory, from how kernels use it.
//!
//! The right operand of a product lies as the target asks, in panels along what is summed over on processors; a tied
//! embedding is stored once, as the head's panels, and gather reads it there. Everything else is row major.

use crate::lower::{anchor, refused};
use crate::pass::PassError;
use bloomery_ir::graph::{Graph, Module, Role, ValueId};
use bloomery_ir::layout::Layout;
use bloomery_ir::ops::Op;
use bloomery_ir::program::{Interface, KernelKind};
use bloomery_ir::target::Target;
use std::collections::BTreeMap;

/// What is known of each parameter, by name.
pub(crate) struct Layouts<'a> {
    target: &'a dyn Target,
    parameters: BTreeMap<String, Known>,
}

/// One parameter.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) layout: Layout,
    /// A repeat slices it by layer.
    pub(crate) stacked: bool,
}

const UNUSED: Known = Known { layout: Layout::RowMajor, stacked: false };

impl<'a> Layouts<'a> {
    /// Looks through all entries.
    pub(crate) fn of(module: &Module, entries: &[Interface], target: &'a dyn Target) -> Result<Layouts<'a>, PassError> {
        let mut layouts = Layouts { target, parameters: BTreeMap::new() };
        for (_, graph) in entries.iter().flat_map(|interface| module.parts(&interface.graph)) {
            let names: Vec<Option<String>> = graph.inputs.iter().map(|input| Some(input.name.clone())).collect();
            layouts.visit(module, graph, &names)?;
        }
        Ok(layouts)
    }

    /// The layout of a parameter; row major if nothing says otherwise.
    pub(crate) fn of_parameter(&self, name: &str) -> &Known {
        self.parameters.get(name).unwrap_or(&UNUSED)
    }

    /// `names[i]` is the entry's name of input `i`, when it comes from there.
    fn visit(&mut self, module: &Module, graph: &Graph, names: &[Option<String>]) -> Result<(), PassError> {
        for node in &graph.nodes {
            let name_of = |value: &ValueId| names.get(value.index()).cloned().flatten();
            let given: Vec<Option<String>> = node.operands.iter().map(name_of).collect();
            match &node.op {
                Op::Call(call) => self.visit(module, module.graph(&call.body).expect("verified"), &given)?,
                Op::Repeat(repeat) => {
                    for name in
                        given.iter().enumerate().filter(|(i, _)| repeat.is_stacked(*i)).filter_map(|(_, n)| n.clone())
                    {
                        self.parameters.entry(name).or_insert(UNUSED).stacked = true;
                    }
                    self.visit(module, module.graph(&repeat.body).expect("verified"), &given)?;
                }
                Op::MatMul(matmul) => {
                    let is_weight =
                        graph.inputs.get(node.operands[1].index()).is_some_and(|i| i.role == Role::Parameter);
                    if let (Some(name), true) = (given[1].clone(), is_weight) {
                        let ranks = [0, 1].map(|i| graph.ty(node.operands[i]).rank());
                        let letters = matmul.letters(ranks[0], ranks[1]).expect("verified");
                        let summed = letters.contracted();
                        let place =
                            |letter: &&String| letters.right.iter().position(|l| l == *letter).expect("of the right");
                        let contracted: Vec<usize> = summed.iter().map(place).collect();
                        self.multiplied(graph, name, contracted)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn multiplied(&mut self, graph: &Graph, name: String, contracted: Vec<usize>) -> Result<(), PassError> {
        let wanted = self.target.weight_layout(contracted);
        let known = self.parameters.entry(name.clone()).or_insert(UNUSED);
        if known.layout != Layout::RowMajor && known.layout != wanted {
            return Err(refused(graph, format!("%{name} would need two layouts: {:?} and {wanted:?}", known.layout)));
        }
        known.layout = wanted;
        Ok(())
    }
}

/// What a kernel's emitter looks for first.
pub(crate) fn kind(graph: &Graph) -> KernelKind {
    let of = |kind| graph.nodes.iter().any(|node| anchor(&node.op) == Some(kind));
    use KernelKind::{Append, Attention, Contraction, Elementwise, Gather, Row};
    [Contraction, Attention, Append, Gather, Row].into_iter().find(|kind| of(*kind)).unwrap_or(Elementwise)
}
