//! Graphs that passes will one day write, written by hand: a partitioned MLP and a backward through a repeat.

use bloomery_ir::interpret::shard;
use bloomery_ir::{Bindings, Graph, Interpreter, Module, Precision, Tensor};

use crate::filetests::case;
use crate::random::Random;

fn random_inputs(graph: &Graph, rows: u64, seed: u64) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    let names = Bindings::from([("N".to_owned(), rows)]);
    graph.inputs.iter().map(|input| random.tensor(&input.ty, &names, (-1.0, 1.0), (0, 1))).collect()
}

fn run(module: &Module, inputs: &[Tensor]) -> Vec<Tensor> {
    Interpreter::new(module, Precision::Double).run(&module.graphs[0].name, inputs).unwrap()
}

#[test]
fn the_cut_mlp_is_the_whole_one() {
    let (whole, cut) = (case("run", "mlp"), case("run", "mlp-mp2"));
    let inputs = random_inputs(&whole.graphs[0], 5, 7);
    let expect = run(&whole, &inputs).remove(0);
    let pieces = |rank| {
        let pairs = cut.graphs[0].inputs.iter().zip(&inputs);
        pairs.map(|(input, tensor)| shard(tensor, &input.ty, &cut.mesh, rank)).collect::<Vec<_>>()
    };
    let ranks: Vec<Vec<Tensor>> = (0..2).map(pieces).collect();
    let found = Interpreter::new(&cut, Precision::Double).run_ranks("mlp", ranks).unwrap();
    assert_eq!(found[0], found[1], "ranks agree bit for bit");
    // The same sums in f64, in two parts.
    assert!(found[0][0].difference(&expect) < 1e-14);
}

#[test]
fn the_backward_is_the_slope_of_the_loss() {
    let module = case("run", "backward");
    let inputs = random_inputs(&module.graphs[0], 5, 11);
    let [_, dx, dw] = run(&module, &inputs).try_into().unwrap();
    // Central differences in f64: the truncation is of size step^2, the rounding of 1e-16 / step.
    let step = 1e-5;
    let loss = |operand: usize, i: usize, by: f64| {
        let mut moved = inputs.clone();
        moved[operand].data[i] += by;
        run(&module, &moved)[0].data[0]
    };
    for (operand, gradient) in [(0, &dx), (1, &dw)] {
        assert_eq!(gradient.shape, inputs[operand].shape);
        for (i, &found) in gradient.data.iter().enumerate() {
            let slope = (loss(operand, i, step) - loss(operand, i, -step)) / (2.0 * step);
            assert!((found - slope).abs() < 1e-8, "operand {operand}, element {i}: {found} and {slope}");
        }
    }
}
