//! Random weights, counted rather than kept: value `i` of a parameter depends on the seed, the name and `i` alone.
//!
//! Values follow a normal distribution as well as the sum of four 16-bit numbers does (Irwin-Hall), with a deviation of
//! 0.02, as models are initialised; scales of norms lie around 1. One hash gives one value, so 560 million take seconds.

use std::thread;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The deviation of weights.
const DEVIATION: f32 = 0.02;
/// The deviation of the sum of four numbers below 65536, each uniform: sqrt(4 / 12) * 65536.
const SUM_DEVIATION: f32 = 37_837.2;
/// The mean of that sum.
const SUM_MEAN: f32 = 131_070.0;
/// Values made at once.
const BLOCK: usize = 4096;

/// Fills `out` with f16 values, of which the first is value `first` of the parameter.
pub(super) fn fill(seed: u64, parameter: &str, layer: u64, first: u64, out: &mut [u8]) {
    let stream = stream(seed, parameter, layer);
    let mean = if is_scale(parameter) { 1.0 } else { 0.0 };
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = (out.len() / 2).div_ceil(threads).next_multiple_of(BLOCK);
    thread::scope(|scope| {
        for (i, part) in out.chunks_mut(2 * share).enumerate() {
            scope.spawn(move || some(stream, mean, first + (i * share) as u64, part));
        }
    });
}

/// Whether a parameter is the scale of a norm.
fn is_scale(parameter: &str) -> bool {
    parameter.ends_with("layernorm.weight") || parameter == "ln_f.weight"
}

fn some(stream: u64, mean: f32, first: u64, out: &mut [u8]) {
    let (mut wide, mut narrow) = ([0.0f32; BLOCK], [f16::ZERO; BLOCK]);
    for (block, out) in out.chunks_mut(2 * BLOCK).enumerate() {
        let count = out.len() / 2;
        let from = first + (block * BLOCK) as u64;
        (from..).zip(&mut wide[..count]).for_each(|(i, value)| *value = mean + DEVIATION * normal(stream, i));
        narrow[..count].convert_from_f32_slice(&wide[..count]);
        for (bytes, value) in out.chunks_exact_mut(2).zip(&narrow) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// About normal, deviation 1.
pub(super) fn normal(stream: u64, i: u64) -> f32 {
    let bits = mix(stream.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    (sum as f32 - SUM_MEAN) / SUM_DEVIATION
}

/// Where a parameter's numbers start: FNV-1a over its name, mixed with the seed and the layer.
fn stream(seed: u64, parameter: &str, layer: u64) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let name = parameter.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    mix(mix(mix(seed).wrapping_add(name)).wrapping_add(layer))
}

/// The last steps of SplitMix64 (Steele et al. 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, parameter: &str, layer: u64, first: u64, count: usize) -> Vec<f32> {
        let mut bytes = vec![0; 2 * count];
        fill(seed, parameter, layer, first, &mut bytes);
        bytes.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
    }

    #[test]
    fn any_part_is_a_part_of_the_whole() {
        let whole = values(1, "h.mlp.up.weight", 3, 0, 20_000);
        assert_eq!(values(1, "h.mlp.up.weight", 3, 5_001, 9_000), whole[5_001..14_001]);
        assert_ne!(values(2, "h.mlp.up.weight", 3, 0, 100), whole[..100]);
        assert_ne!(values(1, "h.mlp.up.weight", 4, 0, 100), whole[..100]);
    }

    #[test]
    fn values_are_distributed_as_weights_are() {
        let check = |parameter: &str, mean: f64| {
            let values = values(7, parameter, 0, 0, 100_000);
            let found = values.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e5;
            let deviation = (values.iter().map(|x| (f64::from(*x) - found).powi(2)).sum::<f64>() / 1e5).sqrt();
            assert!((found - mean).abs() < 3e-4 && (deviation - 0.02).abs() < 3e-4, "{found} {deviation}");
        };
        check("h.mlp.up.weight", 0.0);
        check("h.input_layernorm.weight", 1.0);
    }
}
