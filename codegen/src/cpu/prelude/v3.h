/* The vector primitives on x86-64-v3: AVX2, FMA, F16C. A `vf` is two registers. */
typedef struct { __m256 lo, hi; } vf;

#define BOTH(expression_lo, expression_hi) ((vf){(expression_lo), (expression_hi)})

INLINE vf vf_all(float x) { __m256 all = _mm256_set1_ps(x); return BOTH(all, all); }
INLINE vf vf_zero(void) { return BOTH(_mm256_setzero_ps(), _mm256_setzero_ps()); }

INLINE vf vf_load(const f32 *p) { return BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE vf vf_load_f32(const f32 *p) { return vf_load(p); }
INLINE __m256 widen_f16(const f16 *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INLINE __m256 widen_bf16(const bf16 *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE vf vf_load_f16(const f16 *p) { return BOTH(widen_f16(p), widen_f16(p + 8)); }
INLINE vf vf_load_bf16(const bf16 *p) { return BOTH(widen_bf16(p), widen_bf16(p + 8)); }
INLINE void vf_store(f32 *p, vf x) { _mm256_storeu_ps(p, x.lo); _mm256_storeu_ps(p + 8, x.hi); }
INLINE void vf_store_f16(f16 *p, vf x)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}
INLINE void vf_store_bf16(bf16 *p, vf x)
{
    f32 wide[16];
    vf_store(wide, x);
    for (u32 i = 0; i < 16; i++) p[i] = bf16_of_f32(wide[i]);
}

/* The first n lanes; the others read as 0 and are not touched in memory. */
INLINE __m256i lanes_below(u32 n, i32 first)
{
    __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((i32)n), lane);
}
INLINE vf vf_load_f32_n(const f32 *p, u32 n)
{
    return BOTH(_mm256_maskload_ps(p, lanes_below(n, 0)), _mm256_maskload_ps(p + 8, lanes_below(n, 8)));
}
INLINE void vf_store_n(f32 *p, vf x, u32 n)
{
    _mm256_maskstore_ps(p, lanes_below(n, 0), x.lo);
    _mm256_maskstore_ps(p + 8, lanes_below(n, 8), x.hi);
}

INLINE vf vf_add(vf a, vf b) { return BOTH(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)); }
INLINE vf vf_sub(vf a, vf b) { return BOTH(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)); }
INLINE vf vf_mul(vf a, vf b) { return BOTH(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)); }
INLINE vf vf_div(vf a, vf b) { return BOTH(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)); }
INLINE vf vf_max(vf a, vf b) { return BOTH(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)); } /* b where either is NaN */
INLINE vf vf_min(vf a, vf b) { return BOTH(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)); }
INLINE vf vf_sqrt(vf a) { return BOTH(_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)); }
INLINE vf vf_fma(vf a, vf b, vf c) { return BOTH(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)); }
/* sum += a * b where sum is: left to itself, gcc lets sums wander through registers that it does not have. */
INLINE void vf_add_product(vf *sum, vf a, vf b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum->lo) : "x"(a.lo), "x"(b.lo));
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum->hi) : "x"(a.hi), "x"(b.hi));
}
enum { STEPS_AT_ONCE = 4 }; /* of an outer product: counting, once a step, would be 3 of its 23 instructions */
INLINE vf vf_negative(vf a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign));
}
INLINE vf vf_absolute(vf a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}
INLINE vf vf_with_sign(vf a, vf s)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return BOTH(_mm256_or_ps(_mm256_andnot_ps(sign, a.lo), _mm256_and_ps(sign, s.lo)),
                _mm256_or_ps(_mm256_andnot_ps(sign, a.hi), _mm256_and_ps(sign, s.hi)));
}
INLINE vf vf_if_less(vf a, vf b, vf yes, vf no)
{
    return BOTH(_mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)));
}
INLINE vf vf_keep(vf a, u32 n, vf other) /* lanes below n of a */
{
    return BOTH(_mm256_blendv_ps(other.lo, a.lo, _mm256_castsi256_ps(lanes_below(n, 0))),
                _mm256_blendv_ps(other.hi, a.hi, _mm256_castsi256_ps(lanes_below(n, 8))));
}
INLINE vf vf_count(float first) /* first, first + 1, .. */
{
    vf lane = BOTH(_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15));
    return vf_add(vf_all(first), lane);
}

/* x * 2^n by its exponent, where n is the whole number in the last bits of 0x1.8p23 + n; the result is normal. */
INLINE __m256 raise_half(__m256 x, __m256 whole)
{
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_castps_si256(whole), 23)));
}
INLINE vf vf_raise(vf x, vf whole) { return BOTH(raise_half(x.lo, whole.lo), raise_half(x.hi, whole.hi)); }

/* x = m * 2^n with m in 0.7071..1.4142, for positive normal x; returns n. */
INLINE __m256 exponent_half(__m256 x, __m256 *m)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i n = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x3f3504f3)), 23);
    *m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(n, 23)));
    return _mm256_cvtepi32_ps(n);
}
INLINE vf vf_exponent(vf x, vf *m) { return BOTH(exponent_half(x.lo, &m->lo), exponent_half(x.hi, &m->hi)); }

/* Sum and largest of the lanes, as one tree: distances 8, 4, 2, 1. */
INLINE float vf_sum(vf a)
{
    __m256 eight = _mm256_add_ps(a.lo, a.hi);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
INLINE float vf_largest(vf a)
{
    __m256 eight = _mm256_max_ps(a.lo, a.hi);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
INLINE float vf_first(vf a) { return _mm256_cvtss_f32(a.lo); }

/* Weights as f32, even and odd k apart, see `weights.h`. */
INLINE __m256 even_bf16(const bf16 *w) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)w), 16)); }
INLINE __m256 odd_bf16(const bf16 *w) /* by shifts: a mask would hold a register that outer products need */
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_srli_epi32(_mm256_loadu_si256((const __m256i *)w), 16), 16));
}
INLINE void w_widen_bf16(const bf16 *w, vf *even, vf *odd)
{
    *even = BOTH(even_bf16(w), even_bf16(w + 16));
    *odd = BOTH(odd_bf16(w), odd_bf16(w + 16));
}

/* Eight columns after conversion are even, odd, even, odd, ..; a shuffle parts them within halves of a register, which
 * leaves columns 0 1 4 5 2 3 6 7 of each eight. */
INLINE void part_pairs(const f16 *w, __m256 *even, __m256 *odd)
{
    __m256 low = widen_f16(w), high = widen_f16(w + 8);
    *even = _mm256_shuffle_ps(low, high, 0x88);
    *odd = _mm256_shuffle_ps(low, high, 0xdd);
}
INLINE void w_widen_f16(const f16 *w, vf *even, vf *odd)
{
    part_pairs(w, &even->lo, &odd->lo);
    part_pairs(w + 16, &even->hi, &odd->hi);
}
/* 64-bit quarters 0 2 1 3 */
INLINE __m256 pairs_in_order(__m256 x) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)); }
INLINE vf w_columns_f16(vf sum) { return BOTH(pairs_in_order(sum.lo), pairs_in_order(sum.hi)); }
