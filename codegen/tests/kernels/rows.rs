//! Kernels over rows: norms, softmax, gathers, places, movement.

use crate::Cases;
use crate::data::{bytes, bytes_i32, error, floats, layer_norm, panels, random, stored};
use bloomery_codegen::cpu::spec::{
    Binary, Count, Element, ElementwiseSpec, GatherSpec, Matrix, Norm, RowFunction, RowSpec, Spec, Step, Store, Stored,
    Unary,
};

const WIDTHS: [usize; 5] = [1, 4, 16, 37, 200];
const ROWS: usize = 13;
const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

/// The same rows alone and together: (kernel, launch of all, launches of single rows).
fn together_and_alone(
    cases: &mut Cases,
    spec: &Spec,
    x: &[f32],
    width: usize,
    more: &[Vec<u8>],
) -> (usize, Vec<usize>) {
    let kernel = cases.kernel(spec);
    let mut launch = |x: &[f32]| {
        let mut views = vec![bytes(x), bytes(&vec![f32::NAN; x.len()])];
        views.extend_from_slice(more);
        cases.launch(kernel, views, &[(x.len() / width) as u32], 1)
    };
    (launch(x), x.chunks(width).map(launch).collect())
}

#[test]
fn rows_are_normalised() {
    let mut cases = Cases::default();
    let mut checks = vec![];
    for width in WIDTHS {
        let x = random(width as u64, ROWS * width);
        for element in ELEMENTS {
            let (gamma, gamma_values) = stored(element, &random(8, width));
            let (beta, beta_values) = stored(element, &random(9, width));
            let affine = Some((Stored { view: 2, element }, Stored { view: 3, element }));
            let norm = Norm { affine, epsilon: 1e-5 };
            let function = RowFunction::LayerNorm(norm);
            let spec = RowSpec {
                count: Count::of(0),
                width,
                function,
                x: Matrix::whole(0, width),
                out: Matrix::whole(1, width),
            };
            let launches = together_and_alone(&mut cases, &Spec::Row(spec), &x, width, &[gamma, beta]);
            let expected = layer_norm(&x, width, &gamma_values, &beta_values, f64::from(1e-5f32));
            checks.push((launches, expected));
        }
        let (x_matrix, out) = (Matrix::whole(0, width), Matrix::whole(1, width));
        let function = RowFunction::LayerNorm(Norm { affine: None, epsilon: 1e-5 });
        let spec = RowSpec { count: Count::of(0), width, function, x: x_matrix, out };
        let launches = together_and_alone(&mut cases, &Spec::Row(spec), &x, width, &[]);
        let (ones, zeros) = (vec![1.0; width], vec![0.0; width]);
        checks.push((launches, layer_norm(&x, width, &ones, &zeros, f64::from(1e-5f32))));
        let spec = RowSpec { count: Count::of(0), width, function: RowFunction::Softmax, x: x_matrix, out };
        let launches = together_and_alone(&mut cases, &Spec::Row(spec), &x, width, &[]);
        let softmax = |row: &[f32]| {
            let sum: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
            row.iter().map(|v| f64::from(*v).exp() / sum).collect::<Vec<_>>()
        };
        checks.push((launches, x.chunks(width).flat_map(softmax).collect()));
    }
    let found = cases.run();
    for ((all, single), expected) in checks {
        let all = &found[all][1];
        assert!(error(&floats(all), &expected) < 2e-6, "{} columns", expected.len() / ROWS);
        let single: Vec<u8> = single.iter().flat_map(|launch| found[*launch][1].clone()).collect();
        assert!(*all == single, "a row alone has the same bits");
    }
}

#[test]
fn tables_are_read_by_rows_and_from_panels() {
    let mut cases = Cases::default();
    let mut checks = vec![];
    let ids = [0, 5, 18, 18, 7];
    for width in [4, 37] {
        for element in ELEMENTS {
            let (rows, values) = stored(element, &random(7, 19 * width));
            let transposed: Vec<f32> = (0..width * 19).map(|i| values[i % 19 * width + i / 19]).collect();
            let table = Stored { view: 0, element };
            let out = Matrix::whole(2, width);
            let plain = GatherSpec {
                place: None,
                count: Count::of(0),
                table_rows: Count::number(19),
                width,
                table,
                panels: false,
                ids: 1,
                norm: None,
                out,
            };
            let affine = Some((Stored { view: 3, element }, Stored { view: 4, element }));
            let norm = Norm { affine, epsilon: 1e-5 };
            let (gamma, beta) = (stored(element, &random(8, width)), stored(element, &random(9, width)));
            let gathered: Vec<f32> = ids.iter().flat_map(|id| values[id * width..][..width].to_vec()).collect();
            for norm in [None, Some(norm)] {
                for (in_panels, bytes_of_table) in
                    [(false, rows.clone()), (true, panels(element, &transposed, width, 19))]
                {
                    let kernel = cases.kernel(&Spec::Gather(GatherSpec { panels: in_panels, norm, ..plain.clone() }));
                    let ids = bytes_i32(&ids.map(|id| id as i32));
                    let out = bytes(&vec![f32::NAN; 5 * width]);
                    let views = vec![bytes_of_table, ids, out, gamma.0.clone(), beta.0.clone()];
                    let launch = cases.launch(kernel, views, &[5], 2);
                    let expected = match norm {
                        None => gathered.iter().map(|v| f64::from(*v)).collect(),
                        Some(_) => layer_norm(&gathered, width, &gamma.1, &beta.1, f64::from(1e-5f32)),
                    };
                    checks.push((launch, norm.is_some(), expected));
                }
            }
        }
    }
    let found = cases.run();
    for (launch, normalised, expected) in checks {
        let error = error(&floats(&found[launch][2]), &expected);
        assert!(if normalised { error < 2e-6 } else { error == 0.0 }, "error {error:.1e}");
    }
}

#[test]
fn places_see_columns_rows_and_numbers() {
    let mut cases = Cases::default();
    let mut checks = vec![];
    for width in WIDTHS {
        for element in ELEMENTS {
            let mut store = Store::new();
            let x = store.step(Step::Matrix(Matrix { stride: width + 3, offset: 2, ..Matrix::whole(0, width) }));
            let column = store.step(Step::Column(Stored { view: 2, element }));
            let per_row = store.step(Step::PerRow(3));
            let number = store.step(Step::Number(0.25));
            let size = store.step(Step::Unary(Unary::Absolute, x));
            let root = store.step(Step::Unary(Unary::Sqrt, size));
            let top = store.binary(Binary::Max, root, number);
            let quotient = store.binary(Binary::Div, column, top);
            let least = store.binary(Binary::Min, quotient, per_row);
            let minus = store.step(Step::Unary(Unary::Negative, least));
            let difference = store.binary(Binary::Sub, minus, x);
            let mut store = store.to(difference, Matrix::whole(1, width));
            store.outputs.push((top, Matrix::whole(4, width)));
            let kernel = cases.kernel(&Spec::Elementwise(ElementwiseSpec { count: Count::of(0), width, store }));
            let x = random(1, 2 + ROWS * (width + 3));
            let (column, column_values) = stored(element, &random(2, width));
            let per_row = random(3, ROWS);
            let out = bytes(&vec![f32::NAN; ROWS * width]);
            let views = vec![bytes(&x), out.clone(), column, bytes(&per_row), out];
            let launch = cases.launch(kernel, views, &[ROWS as u32], 0);
            let place = |i: usize| {
                let (row, column) = (i / width, i % width);
                let x = x[2 + row * (width + 3) + column];
                let top = x.abs().sqrt().max(0.25);
                (-(column_values[column] / top).min(per_row[row]) - x, top)
            };
            checks.push((launch, (0..ROWS * width).map(place).collect::<Vec<_>>()));
        }
    }
    let found = cases.run();
    for (launch, expected) in checks {
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let (first, second): (Vec<f32>, Vec<f32>) = expected.into_iter().unzip();
        assert_eq!(bits(&floats(&found[launch][1])), bits(&first), "every step rounds as f32 does");
        assert_eq!(bits(&floats(&found[launch][4])), bits(&second));
    }
}
