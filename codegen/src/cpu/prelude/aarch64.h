/* The vector primitives on aarch64: NEON of ARMv8.0. A `vf` is four registers. */
#include <arm_neon.h>

typedef struct { float32x4_t q0, q1, q2, q3; } vf;

#define EACH1(f, x) ((vf){f((x).q0), f((x).q1), f((x).q2), f((x).q3)})
#define EACH2(f, x, y) ((vf){f((x).q0, (y).q0), f((x).q1, (y).q1), f((x).q2, (y).q2), f((x).q3, (y).q3)})
#define EACH3(f, x, y, z) \
    ((vf){f((x).q0, (y).q0, (z).q0), f((x).q1, (y).q1, (z).q1), f((x).q2, (y).q2, (z).q2), f((x).q3, (y).q3, (z).q3)})

INLINE float f32_of_f16(f16 h) { union { u16 bits; __fp16 half; } v = {h}; return (float)v.half; }
INLINE f16 f16_of_f32(float x) { union { __fp16 half; u16 bits; } v = {(__fp16)x}; return v.bits; }
INLINE float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

INLINE uint32x4_t bits_of(float32x4_t x) { return vreinterpretq_u32_f32(x); }
INLINE float32x4_t of_bits(uint32x4_t bits) { return vreinterpretq_f32_u32(bits); }

INLINE vf vf_all(float x) { float32x4_t all = vdupq_n_f32(x); return (vf){all, all, all, all}; }
INLINE vf vf_zero(void) { return vf_all(0); }

INLINE vf vf_load(const f32 *p) { return (vf){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
INLINE vf vf_load_f32(const f32 *p) { return vf_load(p); }
INLINE float32x4_t widen_f16(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
INLINE float32x4_t widen_bf16(uint16x4_t h) { return of_bits(vshll_n_u16(h, 16)); }
INLINE vf vf_load_f16(const f16 *p)
{
    return (vf){widen_f16(vld1_u16(p)), widen_f16(vld1_u16(p + 4)), widen_f16(vld1_u16(p + 8)), widen_f16(vld1_u16(p + 12))};
}
INLINE vf vf_load_bf16(const bf16 *p)
{
    return (vf){widen_bf16(vld1_u16(p)), widen_bf16(vld1_u16(p + 4)), widen_bf16(vld1_u16(p + 8)), widen_bf16(vld1_u16(p + 12))};
}
INLINE void vf_store(f32 *p, vf x)
{
    vst1q_f32(p, x.q0), vst1q_f32(p + 4, x.q1), vst1q_f32(p + 8, x.q2), vst1q_f32(p + 12, x.q3);
}
INLINE uint16x4_t narrow_f16(float32x4_t x) { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }
INLINE uint16x4_t narrow_bf16(float32x4_t x)
{
    uint32x4_t bits = bits_of(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    uint32x4_t nearest = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), nearest, quiet), 16);
}
INLINE void vf_store_f16(f16 *p, vf x)
{
    vst1_u16(p, narrow_f16(x.q0)), vst1_u16(p + 4, narrow_f16(x.q1));
    vst1_u16(p + 8, narrow_f16(x.q2)), vst1_u16(p + 12, narrow_f16(x.q3));
}
INLINE void vf_store_bf16(bf16 *p, vf x)
{
    vst1_u16(p, narrow_bf16(x.q0)), vst1_u16(p + 4, narrow_bf16(x.q1));
    vst1_u16(p + 8, narrow_bf16(x.q2)), vst1_u16(p + 12, narrow_bf16(x.q3));
}

/* The first n lanes; the others read as 0 and are not touched in memory. */
INLINE vf vf_load_f32_n(const f32 *p, u32 n)
{
    f32 whole[16] = {0};
    for (u32 i = 0; i < n && i < 16; i++) whole[i] = p[i];
    return vf_load(whole);
}
INLINE void vf_store_n(f32 *p, vf x, u32 n)
{
    f32 whole[16];
    vf_store(whole, x);
    for (u32 i = 0; i < n && i < 16; i++) p[i] = whole[i];
}

/* The processor's own maximum would return a NaN; here b is taken where either is one. */
INLINE float32x4_t quarter_max(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE float32x4_t quarter_min(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
INLINE float32x4_t quarter_fma(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }
INLINE float32x4_t quarter_with_sign(float32x4_t a, float32x4_t s) { return vbslq_f32(vdupq_n_u32(0x80000000), s, a); }
INLINE vf vf_add(vf a, vf b) { return EACH2(vaddq_f32, a, b); }
INLINE vf vf_sub(vf a, vf b) { return EACH2(vsubq_f32, a, b); }
INLINE vf vf_mul(vf a, vf b) { return EACH2(vmulq_f32, a, b); }
INLINE vf vf_div(vf a, vf b) { return EACH2(vdivq_f32, a, b); }
INLINE vf vf_max(vf a, vf b) { return EACH2(quarter_max, a, b); }
INLINE vf vf_min(vf a, vf b) { return EACH2(quarter_min, a, b); }
INLINE vf vf_sqrt(vf a) { return EACH1(vsqrtq_f32, a); }
INLINE vf vf_fma(vf a, vf b, vf c) { return EACH3(quarter_fma, a, b, c); }
INLINE void vf_add_product(vf *sum, vf a, vf b) { *sum = vf_fma(a, b, *sum); }
enum { STEPS_AT_ONCE = 1 }; /* see `weights.h` */
INLINE vf vf_negative(vf a) { return EACH1(vnegq_f32, a); }
INLINE vf vf_absolute(vf a) { return EACH1(vabsq_f32, a); }
INLINE vf vf_with_sign(vf a, vf s) { return EACH2(quarter_with_sign, a, s); }
INLINE vf vf_if_less(vf a, vf b, vf yes, vf no)
{
    return (vf){vbslq_f32(vcltq_f32(a.q0, b.q0), yes.q0, no.q0), vbslq_f32(vcltq_f32(a.q1, b.q1), yes.q1, no.q1),
                vbslq_f32(vcltq_f32(a.q2, b.q2), yes.q2, no.q2), vbslq_f32(vcltq_f32(a.q3, b.q3), yes.q3, no.q3)};
}

INLINE float32x4_t quarter_count(float first)
{
    static const f32 lane[4] = {0, 1, 2, 3};
    return vaddq_f32(vdupq_n_f32(first), vld1q_f32(lane));
}
/* Lanes below n of a, the first of the quarter being `lane`. */
INLINE float32x4_t quarter_keep(float32x4_t a, u32 n, float32x4_t other, u32 lane)
{
    uint32x4_t left = vdupq_n_u32(n > lane ? n - lane : 0), index = vcvtq_u32_f32(quarter_count(0));
    return vbslq_f32(vcltq_u32(index, left), a, other);
}
INLINE vf vf_keep(vf a, u32 n, vf other) /* lanes below n of a */
{
    return (vf){quarter_keep(a.q0, n, other.q0, 0), quarter_keep(a.q1, n, other.q1, 4),
                quarter_keep(a.q2, n, other.q2, 8), quarter_keep(a.q3, n, other.q3, 12)};
}
INLINE vf vf_count(float first) /* first, first + 1, .. */
{
    vf lane = {quarter_count(0), quarter_count(4), quarter_count(8), quarter_count(12)};
    return vf_add(vf_all(first), lane);
}

/* x * 2^n by its exponent, where n is the whole number in the last bits of 0x1.8p23 + n; the result is normal. */
INLINE float32x4_t quarter_raise(float32x4_t x, float32x4_t whole)
{
    return of_bits(vaddq_u32(bits_of(x), vshlq_n_u32(bits_of(whole), 23)));
}
INLINE vf vf_raise(vf x, vf whole) { return EACH2(quarter_raise, x, whole); }

/* x = m * 2^n with m in 0.7071..1.4142, for positive normal x; returns n. */
INLINE float32x4_t quarter_exponent(float32x4_t x, float32x4_t *m)
{
    int32x4_t bits = vreinterpretq_s32_f32(x), n = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f3)), 23);
    *m = vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(n, 23)));
    return vcvtq_f32_s32(n);
}
INLINE vf vf_exponent(vf x, vf *m)
{
    return (vf){quarter_exponent(x.q0, &m->q0), quarter_exponent(x.q1, &m->q1),
                quarter_exponent(x.q2, &m->q2), quarter_exponent(x.q3, &m->q3)};
}

/* Sum and largest of the lanes, as one tree: distances 8, 4, 2, 1. */
INLINE float vf_sum(vf a)
{
    float32x4_t four = vaddq_f32(vaddq_f32(a.q0, a.q2), vaddq_f32(a.q1, a.q3));
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
INLINE float vf_largest(vf a)
{
    float32x4_t four = quarter_max(quarter_max(a.q0, a.q2), quarter_max(a.q1, a.q3));
    float32x4_t two = quarter_max(four, vextq_f32(four, four, 2));
    return vgetq_lane_f32(quarter_max(two, vextq_f32(two, two, 1)), 0);
}
INLINE float vf_first(vf a) { return vgetq_lane_f32(a.q0, 0); }

/* Weights as f32, even and odd k apart, see `weights.h`. */
INLINE uint32x4_t pairs_at(const u16 *w) { return vreinterpretq_u32_u16(vld1q_u16(w)); }
INLINE float32x4_t even_bf16(const bf16 *w) { return of_bits(vshlq_n_u32(pairs_at(w), 16)); }
INLINE float32x4_t odd_bf16(const bf16 *w) { return of_bits(vandq_u32(pairs_at(w), vdupq_n_u32(0xffff0000))); }
INLINE void w_widen_bf16(const bf16 *w, vf *even, vf *odd)
{
    *even = (vf){even_bf16(w), even_bf16(w + 8), even_bf16(w + 16), even_bf16(w + 24)};
    *odd = (vf){odd_bf16(w), odd_bf16(w + 8), odd_bf16(w + 16), odd_bf16(w + 24)};
}

/* The loads part even from odd. */
INLINE vf widen_both_f16(uint16x8_t low, uint16x8_t high)
{
    return (vf){widen_f16(vget_low_u16(low)), widen_f16(vget_high_u16(low)), widen_f16(vget_low_u16(high)), widen_f16(vget_high_u16(high))};
}
INLINE void w_widen_f16(const f16 *w, vf *even, vf *odd)
{
    uint16x8x2_t low = vld2q_u16(w), high = vld2q_u16(w + 16);
    *even = widen_both_f16(low.val[0], high.val[0]);
    *odd = widen_both_f16(low.val[1], high.val[1]);
}
INLINE vf w_columns_f16(vf sum) { return sum; }

INLINE void prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
INLINE void prefetch_far(const void *p) { __builtin_prefetch(p, 0, 2); } /* into the second cache */
