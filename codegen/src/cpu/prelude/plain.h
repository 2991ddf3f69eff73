/* The vector primitives in plain C: the definition the other classes are held to, bit for bit. */
typedef struct { float at[16]; } vf;

#define LANES(expression) ({ vf r_; for (u32 i = 0; i < 16; i++) r_.at[i] = (expression); r_; })

INLINE float f32_of_f16(f16 h)
{
    u32 sign = (u32)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) { /* infinity, or a NaN made quiet */
        return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13 | (rest > 0x7c00 ? 0x400000 : 0));
    }
    /* 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal, exactly. */
    return float_of_bits(sign | bits_of_float(float_of_bits(rest << 13) * 0x1p112f));
}

/* To the nearest, ties to even, as the processors' converters do. */
INLINE f16 f16_of_f32(float x)
{
    u32 bits = bits_of_float(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (f16)(sign | 0x7e00 | (rest >> 13 & 0x3ff));
    if (rest >= 0x477ff000) return (f16)(sign | 0x7c00);                /* 65520 and above: infinity */
    if (rest < 0x38800000) {                                            /* below 2^-14: a subnormal */
        return (f16)(sign | (bits_of_float(float_of_bits(rest) + 0.5f) - 0x3f000000));
    }
    return (f16)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}

/* a * b + c rounded once, without a fused instruction. The product is exact in f64; the sum is rounded to odd
 * there (an inexact sum gets a last bit of 1), after which rounding to f32 cannot round twice.
 * Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE TC 2008. */
INLINE float fma_f32(float a, float b, float c)
{
    double product = (double)a * (double)b, addend = (double)c, sum = product + addend;
    double part = sum - product, error = (product - (sum - part)) + (addend - part);
    union { double f; u64 u; } odd = {sum};
    if (error != 0 && error == error && sum - sum == 0 && (odd.u & 1) == 0) {
        odd.u += (error > 0) == (sum > 0) ? 1 : -1ull;
    }
    return (float)odd.f;
}

INLINE vf vf_all(float x) { return LANES(x); }
INLINE vf vf_zero(void) { return vf_all(0); }
INLINE vf vf_count(float first) { return LANES(first + (float)i); } /* first, first + 1, .. */

INLINE vf vf_load(const f32 *p) { return LANES(p[i]); }
INLINE vf vf_load_f32(const f32 *p) { return LANES(p[i]); }
INLINE vf vf_load_f16(const f16 *p) { return LANES(f32_of_f16(p[i])); }
INLINE vf vf_load_bf16(const bf16 *p) { return LANES(f32_of_bf16(p[i])); }
INLINE void vf_store(f32 *p, vf x) { for (u32 i = 0; i < 16; i++) p[i] = x.at[i]; }
INLINE void vf_store_f16(f16 *p, vf x) { for (u32 i = 0; i < 16; i++) p[i] = f16_of_f32(x.at[i]); }
INLINE void vf_store_bf16(bf16 *p, vf x) { for (u32 i = 0; i < 16; i++) p[i] = bf16_of_f32(x.at[i]); }

/* The first n lanes; the others read as 0 and are not touched in memory. */
INLINE vf vf_load_f32_n(const f32 *p, u32 n) { return LANES(i < n ? p[i] : 0); }
INLINE void vf_store_n(f32 *p, vf x, u32 n) { for (u32 i = 0; i < 16; i++) if (i < n) p[i] = x.at[i]; }

INLINE vf vf_add(vf a, vf b) { return LANES(a.at[i] + b.at[i]); }
INLINE vf vf_sub(vf a, vf b) { return LANES(a.at[i] - b.at[i]); }
INLINE vf vf_mul(vf a, vf b) { return LANES(a.at[i] * b.at[i]); }
INLINE vf vf_div(vf a, vf b) { return LANES(a.at[i] / b.at[i]); }
INLINE vf vf_max(vf a, vf b) { return LANES(a.at[i] > b.at[i] ? a.at[i] : b.at[i]); } /* b where either is NaN */
INLINE vf vf_min(vf a, vf b) { return LANES(a.at[i] < b.at[i] ? a.at[i] : b.at[i]); }
INLINE vf vf_sqrt(vf a) { return LANES(__builtin_sqrtf(a.at[i])); }
INLINE vf vf_fma(vf a, vf b, vf c) { return LANES(fma_f32(a.at[i], b.at[i], c.at[i])); }
INLINE void vf_add_product(vf *sum, vf a, vf b) { *sum = vf_fma(a, b, *sum); }
enum { STEPS_AT_ONCE = 1 }; /* see `weights.h` */
INLINE vf vf_negative(vf a) { return LANES(float_of_bits(bits_of_float(a.at[i]) ^ 0x80000000)); }
INLINE vf vf_absolute(vf a) { return LANES(float_of_bits(bits_of_float(a.at[i]) & 0x7fffffff)); }
INLINE vf vf_with_sign(vf a, vf sign)
{
    return LANES(float_of_bits((bits_of_float(a.at[i]) & 0x7fffffff) | (bits_of_float(sign.at[i]) & 0x80000000)));
}
INLINE vf vf_if_less(vf a, vf b, vf yes, vf no) { return LANES(a.at[i] < b.at[i] ? yes.at[i] : no.at[i]); }
INLINE vf vf_keep(vf a, u32 n, vf other) { return LANES(i < n ? a.at[i] : other.at[i]); } /* lanes below n of a */

/* x * 2^n by its exponent, where n is the whole number in the last bits of 0x1.8p23 + n; the result is normal. */
INLINE vf vf_raise(vf x, vf whole) { return LANES(float_of_bits(bits_of_float(x.at[i]) + (bits_of_float(whole.at[i]) << 23))); }

/* x = m * 2^n with m in 0.7071..1.4142, for positive normal x; returns n. */
INLINE vf vf_exponent(vf x, vf *m)
{
    vf n = LANES((float)((i32)(bits_of_float(x.at[i]) - 0x3f3504f3) >> 23));
    *m = LANES(float_of_bits(bits_of_float(x.at[i]) - ((u32)(i32)n.at[i] << 23)));
    return n;
}

/* Sum and largest of the lanes, as one tree: distances 8, 4, 2, 1. */
INLINE float vf_sum(vf a)
{
    for (u32 far = 8; far > 0; far /= 2) for (u32 i = 0; i < far; i++) a.at[i] += a.at[i + far];
    return a.at[0];
}
INLINE float vf_largest(vf a)
{
    for (u32 far = 8; far > 0; far /= 2) {
        for (u32 i = 0; i < far; i++) a.at[i] = a.at[i] > a.at[i + far] ? a.at[i] : a.at[i + far];
    }
    return a.at[0];
}
INLINE float vf_first(vf a) { return a.at[0]; }

/* Weights as f32, even and odd k apart, see `weights.h`. */
INLINE void w_widen_f16(const f16 *w, vf *even, vf *odd)
{
    *even = LANES(f32_of_f16(w[2 * i]));
    *odd = LANES(f32_of_f16(w[2 * i + 1]));
}
INLINE void w_widen_bf16(const bf16 *w, vf *even, vf *odd)
{
    *even = LANES(f32_of_bf16(w[2 * i]));
    *odd = LANES(f32_of_bf16(w[2 * i + 1]));
}
INLINE vf w_columns_f16(vf sum) { return sum; }

INLINE void prefetch(const void *p) { (void)p; }
INLINE void prefetch_far(const void *p) { (void)p; } /* into the second cache */
