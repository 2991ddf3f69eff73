//! The prelude's arithmetic: exp, tanh and log against f64, the software FMA and half converters against the processor.
use crate::Cases;
use crate::data::{bytes, floats};
use bloomery_codegen::cpu::spec::{Count, ElementwiseSpec, Matrix, Spec, Step, Store, Unary};

fn elementwise(width: usize, build: impl FnOnce(&mut Store) -> usize, out: usize) -> Spec {
    let mut store = Store::new();
    let last = build(&mut store);
    Spec::Elementwise(ElementwiseSpec { count: Count::of(0), width, store: store.to(last, Matrix::whole(out, width)) })
}

/// Distance in units in the last place of the f32 nearest to `expected`.
fn ulps(found: f32, expected: f64) -> f64 {
    let near = expected as f32;
    // What would be subnormal may be 0.
    if found == near || found == 0.0 && near.abs() < f32::MIN_POSITIVE {
        return 0.0;
    }
    let unit = f64::from(f32::from_bits(near.abs().to_bits() + 1)) - f64::from(near.abs());
    (f64::from(found) - expected).abs() / unit
}

#[test]
fn functions_stay_within_their_ulps() {
    let mut cases = Cases::default();
    let inputs: Vec<f32> = (0..0xff80_0000u32).step_by(9973).map(f32::from_bits).filter(|x| x.is_finite()).collect();
    let mut near: Vec<f32> = (-110_000..95_000).map(|i| i as f32 * 1e-3 + 1e-5).collect();
    near.extend(inputs);
    let width = near.len();
    type Reference = fn(f64) -> f64;
    let functions: [(Unary, Reference, f64); 4] = [
        (Unary::Exp, f64::exp, 2.0),
        (Unary::Tanh, f64::tanh, 2.0),
        (Unary::OnePlusTanh, |x| 2.0 / (1.0 + (-2.0 * x).min(f64::from(88.7f32)).exp()), 4.0),
        (Unary::Log, |x| f64::ln(x.abs()), 2.0),
    ];
    for (function, ..) in functions {
        let kernel = cases.kernel(&elementwise(
            width,
            |store| {
                let mut x = store.step(Step::Matrix(Matrix::whole(0, width)));
                if function == Unary::Log {
                    x = store.step(Step::Unary(Unary::Absolute, x));
                }
                store.step(Step::Unary(function, x))
            },
            1,
        ));
        cases.launch(kernel, vec![bytes(&near), bytes(&vec![0.0; width])], &[1], 0);
    }
    let found = cases.run();
    for (i, (function, reference, most)) in functions.iter().enumerate() {
        let out = floats(&found[i][1]);
        let worst = near.iter().zip(&out).map(|(x, y)| (ulps(*y, reference(f64::from(*x))), *x));
        let worst = worst.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        assert!(worst.0 <= *most, "{function:?}: {} ulp at {}", worst.0, worst.1);
    }
}

#[test]
fn the_software_fma_rounds_once() {
    // Bits at random, so that exponents, signs, infinities and subnormals of all kinds meet.
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        f32::from_bits((state >> 32) as u32)
    };
    let mut rows: [Vec<f32>; 3] = Default::default();
    while rows[0].len() < 400_000 {
        let (a, b, mut c) = (next(), next(), next());
        if rows[0].len() % 2 == 0 {
            c = f32::from_bits((-(a * b)).to_bits() ^ (c.to_bits() & 0xff)); // near cancellation
        }
        if a.mul_add(b, c).is_nan() {
            continue; // which NaN it is, the classes may choose
        }
        for (row, value) in rows.iter_mut().zip([a, b, c]) {
            row.push(value);
        }
    }
    let width = rows[0].len();
    let mut cases = Cases::default();
    let kernel = cases.kernel(&elementwise(
        width,
        |store| {
            let x = [0, 1, 2].map(|view| store.step(Step::Matrix(Matrix::whole(view, width))));
            store.step(Step::Fma(x[0], x[1], x[2]))
        },
        3,
    ));
    let views = rows.iter().map(|row| bytes(row)).chain([bytes(&vec![0.0; width])]).collect();
    cases.launch(kernel, views, &[1], 0);
    let found = floats(&cases.run()[0][3]);
    for i in 0..width {
        let (a, b, c) = (rows[0][i], rows[1][i], rows[2][i]);
        assert_eq!(found[i].to_bits(), a.mul_add(b, c).to_bits(), "{a:e} * {b:e} + {c:e}");
    }
}
