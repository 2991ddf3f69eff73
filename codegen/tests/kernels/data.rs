//! Seeded numbers, and their bytes as the kernels want them.

use bloomery_codegen::cpu::spec::Element;
use half::{bf16, f16};

/// Numbers of about a standard normal's size, the same for the same seed.
pub(crate) fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next() + next() + next()).collect()
}

pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(crate) fn bytes_i32(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect()
}

/// Values as stored elements, and what they became by rounding.
pub(crate) fn stored(element: Element, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    match element {
        Element::F32 => (bytes(values), values.to_vec()),
        Element::F16 => (
            values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            values.iter().map(|v| f16::from_f32(*v).to_f32()).collect(),
        ),
        Element::Bf16 => (
            values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            values.iter().map(|v| bf16::from_f32(*v).to_f32()).collect(),
        ),
    }
}

/// A weight `w[k, n]` in panels.
pub(crate) fn panels(element: Element, w: &[f32], k: usize, n: usize) -> Vec<u8> {
    let g = element.pair();
    let depth = k.next_multiple_of(g);
    let mut packed = vec![0.0; n.div_ceil(16) * 16 * depth];
    for row in 0..k {
        for column in 0..n {
            let place = column / 16 * depth * 16 + row / g * 16 * g + column % 16 * g + row % g;
            packed[place] = w[row * n + column];
        }
    }
    stored(element, &packed).0
}

/// Largest difference from the reference, over the largest reference.
pub(crate) fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let top = expected.iter().fold(1e-30, |top: f64, e| top.max(e.abs()));
    let worst = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs());
    worst.fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { d.max(worst) }) / top
}

/// Layer normalisation of rows, in f64.
pub(crate) fn layer_norm(x: &[f32], width: usize, gamma: &[f32], beta: &[f32], epsilon: f64) -> Vec<f64> {
    let row = |x: &[f32]| {
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / width as f64;
        let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + epsilon).sqrt();
        let normal = x.iter().map(|v| (f64::from(*v) - mean) * scale);
        normal.zip(gamma.iter().zip(beta)).map(|(v, (g, b))| v * f64::from(*g) + f64::from(*b)).collect::<Vec<_>>()
    };
    x.chunks(width).flat_map(row).collect()
}
