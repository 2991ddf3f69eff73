//! Every function of the prelude that a class defines for itself, on the values where definitions part: NaN, infinities,
//! subnormals, zeros of both signs, ties of rounding; what plain C makes of them, all classes must.

use crate::data::{bytes, random};
use crate::{Cases, PLAIN_TILES};
use bloomery_codegen::cpu::{Kernel, Phase, SharedScratch, Tiles};

/// Groups of 16 lanes: enough for every half.
const GROUPS: usize = 65536 / 32;

/// Bits of f32 that arithmetic treats apart, each with the other sign too.
const EDGES: &[u32] = &[
    0,           // 0
    1,           // the smallest subnormal
    0x0040_0000, // a subnormal
    0x007f_ffff, // the largest
    0x0080_0000, // the smallest normal
    0x0080_0001,
    0x3300_0000, // 2^-25: half of f16's smallest, a tie
    0x3300_0001,
    0x33c0_0000, // 1.5 * 2^-24: a tie between subnormals of f16
    0x3380_0000, // 2^-24
    0x387f_e000, // the largest subnormal of f16 and a half: a tie
    0x3880_0000, // f16's smallest normal
    0x3eaa_aaab, // 1 / 3
    0x3f00_0000, // 1 / 2
    0x3f35_04f3, // sqrt(1 / 2), where `vf_exponent` turns
    0x3f80_0000, // 1
    0x3f80_0001,
    0x3f80_1000, // 1 + 2^-11: a tie of f16, down
    0x3f80_3000, // 1 + 3 * 2^-11: a tie of f16, up
    0x3f80_8000, // 1 + 2^-8: a tie of bf16, down
    0x3f81_8000, // a tie of bf16, up
    0x3f81_8001,
    0x4049_0fdb, // pi
    0x42b1_7218, // 128 ln 2, where `vf_exp` ends
    0x42ae_ac50, // 126 ln 2
    0x477f_e000, // f16's largest
    0x477f_efff, // below the tie to f16's infinity
    0x477f_f000, // the tie
    0x7f7f_7fff, // below the tie to bf16's infinity
    0x7f7f_ffff, // the largest
    0x7f80_0000, // infinity
    0x7fc0_0000, // NaN
    0x7fd5_5555, // NaN with a payload
    0x7f80_0001, // a signalling NaN
    0x7faa_aaaa,
];

/// Whose NaN a result is: which one comes out of arithmetic on NaN and of invalid operations is the processor's choice.
#[derive(Clone, Copy, PartialEq)]
enum Nan {
    /// The definition's.
    Same,
    /// Any.
    Any,
}

/// Calls in C. Given are a, b, d of 16 lanes; their addresses x, y; halves h[32]; n, a number from 0 to 18; p and q, floats
/// and halves of which only n, 16 at most, may be read. `r` is the result, or `to` is written.
const CALLS: &[(Nan, &str)] = &[
    (Nan::Same, "EACH(f32_of_f16(h[j]))"),
    (Nan::Same, "EACH(float_of_bits(f16_of_f32(x[j])))"),
    (Nan::Same, "EACH(f32_of_bf16(h[j]))"),
    (Nan::Same, "EACH(float_of_bits(bf16_of_f32(x[j])))"),
    (Nan::Any, "EACH(fma_f32(x[j], y[j], y[15 - j]))"),
    (Nan::Same, "r = vf_all(x[3])"),
    (Nan::Same, "r = vf_zero()"),
    (Nan::Any, "r = vf_count(x[5])"),
    (Nan::Same, "r = vf_count((f32)(i32)(n * 16))"),
    (Nan::Same, "r = vf_load(x)"),
    (Nan::Same, "r = vf_load_f32(x)"),
    (Nan::Same, "r = vf_load_f16(h)"),
    (Nan::Same, "r = vf_load_bf16(h)"),
    (Nan::Same, "r = vf_load_f32_n(p, n)"),
    (Nan::Same, "r = vf_load_f16_n(q, n)"),
    (Nan::Same, "r = vf_load_bf16_n(q, n)"),
    (Nan::Same, "vf_store(to, a)"),
    (Nan::Same, "vf_store_f16((f16 *)to, a)"),
    (Nan::Same, "vf_store_bf16((bf16 *)to, a)"),
    (Nan::Same, "vf_store_n(to, a, n)"),
    (Nan::Any, "r = vf_add(a, b)"),
    (Nan::Any, "r = vf_sub(a, b)"),
    (Nan::Any, "r = vf_mul(a, b)"),
    (Nan::Any, "r = vf_div(a, b)"),
    (Nan::Same, "r = vf_max(a, b)"),
    (Nan::Same, "r = vf_min(a, b)"),
    (Nan::Any, "r = vf_sqrt(a)"),
    (Nan::Any, "r = vf_fma(a, b, d)"),
    (Nan::Any, "r = d, vf_add_product(&r, a, b)"),
    (Nan::Same, "r = vf_negative(a)"),
    (Nan::Same, "r = vf_absolute(a)"),
    (Nan::Same, "r = vf_with_sign(a, b)"),
    (Nan::Same, "r = vf_if_less(a, b, d, a)"),
    (Nan::Same, "r = vf_keep(a, n, b)"),
    (Nan::Same, "r = vf_keep(a, n * 0x1000001, b)"),
    (Nan::Same, "r = vf_raise(a, vf_all(0x1.8p23f + (f32)(i32)n * 7 - 63))"),
    (Nan::Same, "r = vf_exponent(vf_max(vf_absolute(a), vf_all(0x1p-126f)), &d)"),
    (Nan::Same, "vf_exponent(vf_max(vf_absolute(a), vf_all(0x1p-126f)), &r)"),
    (Nan::Any, "r = vf_all(vf_sum(a))"),
    (Nan::Same, "r = vf_all(vf_largest(a))"),
    (Nan::Same, "r = vf_all(vf_first(a))"),
    (Nan::Same, "w_widen_f16(h, &r, &d); r = w_columns_f16(r)"),
    (Nan::Same, "w_widen_f16(h, &d, &r); r = w_columns_f16(r)"),
    (Nan::Same, "w_widen_bf16(h, &r, &d); r = w_columns_bf16(r)"),
    (Nan::Same, "w_widen_bf16(h, &d, &r); r = w_columns_bf16(r)"),
    (Nan::Same, "prefetch(x); prefetch_far(h)"),
    (Nan::Any, "r = vf_exp(a)"),
    (Nan::Any, "r = vf_tanh(a)"),
    (Nan::Any, "r = vf_one_plus_tanh(a)"),
    (Nan::Any, "r = vf_log(a)"),
];

/// A kernel that makes one of the calls for every group.
fn kernel(name: &str, nan: Nan, call: &str) -> Kernel {
    let text = format!(
        "
#undef EACH
#define EACH(expression) for (u32 j = 0; j < 16; j++) lanes[j] = (expression); r = vf_load(lanes)
void {name}(const struct call *c, u32 begin, u32 end)
{{
    for (u32 i = begin; i < end; i++) {{
        const f32 *x = (const f32 *)c->views[0] + i * 16, *y = (const f32 *)c->views[1] + i * 16;
        const u16 *h = (const u16 *)c->views[3] + i * 32;
        f32 *to = (f32 *)c->views[4] + i * 16, lanes[16];
        u32 n = i % 19, few = min_u32(n, 16);
        const f32 *p = i % 2 ? x : (const f32 *)c->views[0] + {GROUPS} * 16 - few;
        const u16 *q = i % 2 ? h : (const u16 *)c->views[3] + {GROUPS} * 32 - few;
        vf a = vf_load(x), b = vf_load(y), d = vf_load((const f32 *)c->views[2] + i * 16), r = vf_load(to);
        (void)y, (void)lanes, (void)p, (void)q, (void)a, (void)b, (void)d;
        {call};
        if ({stores}) continue;
        vf_store(to, r);
        if ({any}) for (u32 j = 0; j < 16; j++) if (to[j] != to[j]) to[j] = float_of_bits(0x7fc00000);
    }}
}}
",
        stores = u32::from(call.contains("to, a")),
        any = u32::from(nan == Nan::Any),
    );
    let main = Phase { symbol: name.into(), tiles: Tiles::fixed(GROUPS as u32) };
    Kernel { text, prepare: None, main, shared: SharedScratch::NONE, local: 0, tile_pieces: 0 }
}

/// x, y, z: every pair of edges, the third going round, every second group with numbers of ordinary size instead; all halves;
/// room for the result.
fn views() -> Vec<Vec<u8>> {
    let edges: Vec<f32> = EDGES.iter().flat_map(|bits| [*bits, bits | 1 << 31]).map(f32::from_bits).collect();
    let (count, lanes) = (edges.len(), GROUPS * 16);
    assert!(count * count * 2 <= lanes, "every pair of edges is met");
    let view = |which: u64, edge: &dyn Fn(usize) -> usize| {
        let ordinary = random(which, lanes);
        let value = |i: usize| {
            let place = i / 32 * 16 + i % 16;
            if i / 16 % 2 == 0 { edges[edge(place) % count] } else { ordinary[i] }
        };
        bytes(&(0..lanes).map(value).collect::<Vec<_>>())
    };
    let x = view(1, &|i| i);
    let y = view(2, &|i| i / count);
    let z = view(3, &|i| i * 3 + i / count * 5);
    let halves = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    vec![x, y, z, halves, vec![0; lanes * 4]]
}

#[test]
fn every_class_defines_what_plain_c_does() {
    let mut cases = Cases::default();
    for (i, (nan, call)) in CALLS.iter().enumerate() {
        cases.kernels.push(Box::new(move |_| kernel(&format!("call{i}"), *nan, call)));
        cases.launch(i, views(), &[], 0);
    }
    for (found, (_, call)) in cases.run().iter().zip(CALLS) {
        let written = found[4].iter().any(|byte| *byte != 0);
        assert!(written || call.contains("vf_zero") || call.contains("prefetch"), "{call} gives nothing");
    }
}

#[test]
fn no_function_of_plain_c_is_forgotten() {
    let text = include_str!("../../src/cpu/prelude/plain.h");
    let names = text.lines().filter_map(|line| line.strip_prefix("INLINE ")?.split('(').next()?.split(' ').next_back());
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 35, "{names:?}");
    for name in names {
        assert!(CALLS.iter().any(|(_, call)| call.contains(&format!("{name}("))), "`{name}` is called nowhere");
    }
}

/// Tiles of halves whose products lie around the smallest normal number, where what counts as zero shows; sums likewise.
#[test]
fn tiles_are_what_plain_c_says() {
    const TILES: usize = 24;
    let text = "
void tiles(const struct call *c, u32 begin, u32 end)
{
    for (u32 i = begin; i < end; i++) {
        const u16 *left = (const u16 *)c->views[0] + i * 1024, *right = (const u16 *)c->views[1] + i * 512;
        f32 *sums = (f32 *)c->views[2] + i * 512;
        struct tiles tiles;
        tiles_begin(&tiles, i % 16 + 1, i % 3 ? i % 7 + 1 : 0);
        tile_load(&tiles, 0, sums);
        tile_zero(&tiles, 2);
        tile_load(&tiles, 4, left);
        tile_load(&tiles, 5, left + 512);
        tile_load(&tiles, 7, right);
        tile_product(&tiles, 0, 4, 7);
        tile_product(&tiles, 2, 5, 7);
        tile_product(&tiles, 2, 5, 7);
        tile_store(&tiles, 0, sums);
        tile_store(&tiles, 2, sums + 256);
        tiles_end(&tiles);
    }
}
";
    let main = Phase { symbol: "tiles".into(), tiles: Tiles::fixed(TILES as u32) };
    let kernel =
        Kernel { text: text.into(), prepare: None, main, shared: SharedScratch::NONE, local: 0, tile_pieces: 1 };
    let mut cases = Cases::of(PLAIN_TILES);
    cases.kernels.push(Box::new(move |_| kernel.clone()));
    // A sign and digits at random, exponents from a list.
    let numbers = |seed: u64, count: usize, exponents: &[u32]| -> Vec<u32> {
        let draws = random(seed, count).into_iter().zip(random(seed + 50, count));
        let number = |(a, b): (f32, f32)| {
            let exponent = exponents[(b.to_bits() >> 3) as usize % exponents.len()];
            a.to_bits() & 0x807f_ffff | exponent << 23
        };
        draws.map(number).collect()
    };
    let halves = |numbers: Vec<u32>| numbers.iter().flat_map(|bits| ((bits >> 16) as u16).to_le_bytes()).collect();
    let left = halves(numbers(1, TILES * 1024, &[0, 1, 2, 60, 62, 64, 66, 127]));
    let right = halves(numbers(2, TILES * 512, &[0, 1, 61, 63, 65, 67, 126]));
    let sums = numbers(3, TILES * 512, &[0, 1, 2, 3]).into_iter().flat_map(u32::to_le_bytes).collect();
    let before: Vec<Vec<u8>> = vec![left, right, sums];
    cases.launch(0, before.clone(), &[], 5);
    let after = cases.run().remove(0);
    let changed = after[2].iter().zip(&before[2]).filter(|(new, old)| new != old).count();
    assert!(changed > TILES * 256, "{changed} bytes of sums changed");
    assert!(after[..2] == before[..2]);
}
