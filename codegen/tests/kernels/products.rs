//! Products with packed weights: all types, all numbers of rows, odd sizes, fused beginnings and ends.

use crate::data::{bytes, error, floats, layer_norm, panels, random, stored};
use crate::{Cases, PLAIN_TILES};
use bloomery_codegen::cpu::spec::{Binary, Count, Element, GemmSpec, Matrix, Norm, Rows, Spec, Step, Store, Stored};
use half::bf16;

/// A product and its operands; views: x, w, bias, residual, gamma, beta, out.
struct Product {
    element: Element,
    k: usize,
    n: usize,
    fused: bool,
    /// Whether the left operand is rounded to bf16.
    rounded: bool,
}

const ROWS_MAX: usize = 200;
const ROWS: &[(Rows, &[usize])] = &[
    (Rows::One, &[1]),
    (Rows::Many { max: 8 }, &[2, 3, 4, 5, 6, 7, 8]),
    (Rows::Many { max: 200 }, &[1, 7, 9, 13, ROWS_MAX]),
];

impl Product {
    fn spec(&self, rows: Rows) -> Spec {
        let (k, n) = (self.k, self.n);
        let stored = |view| Stored { view, element: self.element };
        let mut store = Store::new();
        let value = store.step(Step::Value);
        let bias = store.step(Step::Column(stored(2)));
        let mut sum = store.binary(Binary::Add, value, bias);
        if self.fused {
            sum = store.gelu(sum);
            let residual = store.step(Step::Matrix(Matrix::whole(3, n)));
            sum = store.binary(Binary::Add, sum, residual);
        }
        let norm = self.fused.then(|| Norm { affine: Some((stored(4), stored(5))), epsilon: 1e-5 });
        let store = store.to(sum, Matrix::whole(6, n));
        Spec::Gemm(GemmSpec {
            count: Count::of(0),
            rows,
            k,
            n,
            x: Matrix::whole(0, k),
            w: stored(1),
            norm,
            rounded: self.rounded,
            store,
        })
    }

    fn data(&self) -> [Vec<f32>; 6] {
        let (k, n) = (self.k, self.n);
        let round = |values: Vec<f32>| stored(self.element, &values).1;
        [
            random(1, ROWS_MAX * k),
            round(random(2, k * n)),
            round(random(3, n)),
            random(4, ROWS_MAX * n),
            round(random(5, k)),
            round(random(6, k)),
        ]
    }

    fn views(&self, rows: usize) -> Vec<Vec<u8>> {
        let [x, w, bias, residual, gamma, beta] = self.data();
        let (k, n) = (self.k, self.n);
        let vector = |v: &[f32]| stored(self.element, v).0;
        vec![
            bytes(&x[..rows * k]),
            panels(self.element, &w, k, n),
            vector(&bias),
            bytes(&residual[..rows * n]),
            vector(&gamma),
            vector(&beta),
            bytes(&vec![f32::NAN; rows * n]),
        ]
    }

    fn reference(&self) -> Vec<f64> {
        let [x, w, bias, residual, gamma, beta] = self.data();
        let (k, n) = (self.k, self.n);
        let x = if self.fused {
            layer_norm(&x, k, &gamma, &beta, f64::from(1e-5f32))
        } else {
            x.iter().map(|v| f64::from(*v)).collect()
        };
        let x: Vec<f64> = match self.rounded {
            true => x.iter().map(|v| bf16::from_f32(*v as f32).to_f64()).collect(),
            false => x,
        };
        let place = |i: usize| {
            let (row, column) = (i / n, i % n);
            let product: f64 = (0..k).map(|j| x[row * k + j] * f64::from(w[j * n + column])).sum();
            let v = product + f64::from(bias[column]);
            match self.fused {
                true => 0.5 * v * (1.0 + (0.79788456 * (v + 0.044715 * v.powi(3))).tanh()) + f64::from(residual[i]),
                false => v,
            }
        };
        (0..ROWS_MAX * n).map(place).collect()
    }
}

const SHAPES: &[(usize, usize, bool)] = &[(64, 48, true), (37, 21, true), (5, 3, false), (1100, 72, false)];

#[test]
fn products_agree_for_every_number_of_rows() {
    let of = |element, rounded| SHAPES.iter().map(move |&(k, n, fused)| Product { element, k, n, fused, rounded });
    let whole = [Element::F32, Element::F16, Element::Bf16].map(|element| of(element, false));
    check(Cases::default(), whole.into_iter().flatten());
    check(Cases::default(), of(Element::Bf16, true));
}

/// On tiles a row is three rows of bf16, or one.
#[test]
fn products_on_tiles_agree_for_every_number_of_rows() {
    for rounded in [false, true] {
        let of = |&(k, n, fused): &(usize, usize, bool)| Product { element: Element::Bf16, k, n, fused, rounded };
        check(Cases::of(PLAIN_TILES), SHAPES.iter().map(of));
    }
}

fn check(mut cases: Cases, products: impl Iterator<Item = Product>) {
    let mut launches = vec![];
    for product in products {
        let mut runs = vec![];
        for (rows, counts) in ROWS {
            let kernel = cases.kernel(&product.spec(*rows));
            for (i, &count) in counts.iter().enumerate() {
                let at_once = [0, 1, 3][i % 3];
                runs.push((count, cases.launch(kernel, product.views(count), &[count as u32], at_once)));
            }
        }
        launches.push((product, runs));
    }
    let found = cases.run();
    for (product, runs) in launches {
        let what = format!("{:?} k {} n {} rounded {}", product.element, product.k, product.n, product.rounded);
        let all = runs.iter().find(|(count, _)| *count == ROWS_MAX).expect("it is listed").1;
        let all = &found[all][6];
        // FMA in f32: rounding errors of sqrt(k) or so in the last place. A norm's last place may decide how its result is
        // rounded to bf16.
        let most = if product.rounded && product.fused { 1e-3 } else { 2e-6 };
        let error = error(&floats(all), &product.reference());
        assert!(error < most, "{what}: error {error:.1e}");
        for (count, launch) in runs {
            assert!(found[launch][6] == all[..count * product.n * 4], "{what}: {count} rows have bits of their own");
        }
    }
}
