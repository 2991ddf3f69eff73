//! The layouts that kernels of this target want their inputs in.

use bloomery_ir::graph::{Graph, Role};
use bloomery_ir::ops::matmul::MatMul;
use bloomery_ir::{Layout, Op};

/// A layout for each input: weights of products in panels, caches in pages, everything else row by row.
pub fn inputs(graph: &Graph) -> Vec<Layout> {
    let mut layouts = vec![Layout::RowMajor; graph.inputs.len()];
    for node in &graph.nodes {
        match &node.op {
            Op::MatMul(op) => {
                let [left, right] = [0, 1].map(|i| node.operands[i]);
                let weight = graph.inputs.get(right.index()).is_some_and(|input| input.role == Role::Parameter);
                let contracted = contracted_of(op, graph.ty(left).rank(), graph.ty(right).rank());
                if let Some(contracted) = contracted.filter(|_| weight) {
                    layouts[right.index()] = Layout::Panels { contracted };
                }
            }
            Op::AlibiAttention(_) => set(&mut layouts, node.operands[1].index()),
            Op::CacheAppend(_) => set(&mut layouts, node.operands[0].index()),
            _ => {}
        }
    }
    layouts
}

fn set(layouts: &mut [Layout], index: usize) {
    if let Some(layout) = layouts.get_mut(index) {
        *layout = Layout::CachePages;
    }
}

/// The right operand's contracted dimensions, in the left operand's order, when a product has the form
/// `.. k.., k.. n.. -> .. n..`: the left operand's rows stay rows.
pub(crate) fn contracted_of(op: &MatMul, left: usize, right: usize) -> Option<Vec<usize>> {
    let letters = op.letters(left, right).ok()?;
    let summed = |letter: &&String| !letters.result.contains(letter);
    let rows: Vec<&String> = letters.left.iter().take_while(|letter| !summed(letter)).collect();
    let k: Vec<&String> = letters.left[rows.len()..].iter().collect();
    let columns: Vec<&String> = letters.right.iter().filter(|letter| !k.contains(letter)).collect();
    let result: Vec<&String> = letters.result.iter().collect();
    let fits = !k.is_empty() && k.iter().all(summed) && result == [rows, columns].concat();
    fits.then(|| k.iter().map(|letter| letters.right.iter().position(|other| other == *letter)).collect())?
}
