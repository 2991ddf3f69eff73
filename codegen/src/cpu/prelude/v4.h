/* The vector primitives on x86-64-v4: AVX-512 F, BW, DQ, VL. A `vf` is one register. */
typedef __m512 vf;

INLINE __m512i bits_of(vf x) { return _mm512_castps_si512(x); }
INLINE vf of_bits(__m512i bits) { return _mm512_castsi512_ps(bits); }
INLINE __m512i words(u32 word) { return _mm512_set1_epi32((i32)word); }
INLINE __m256i halves_at(const u16 *p) { return _mm256_loadu_si256((const __m256i *)p); }

INLINE vf vf_all(float x) { return _mm512_set1_ps(x); }
INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
INLINE vf vf_count(float first) /* first, first + 1, .. */
{
    return _mm512_add_ps(vf_all(first), _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

INLINE vf widen_f16(__m256i h) { return _mm512_cvtph_ps(h); }
INLINE vf widen_bf16(__m256i h) { return of_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
INLINE vf vf_load(const f32 *p) { return _mm512_loadu_ps(p); }
INLINE vf vf_load_f32(const f32 *p) { return vf_load(p); }
INLINE vf vf_load_f16(const f16 *p) { return widen_f16(halves_at(p)); }
INLINE vf vf_load_bf16(const bf16 *p) { return widen_bf16(halves_at(p)); }
INLINE void vf_store(f32 *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE void vf_store_f16(f16 *p, vf x) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }
INLINE void vf_store_bf16(bf16 *p, vf x)
{
    __m512i bits = bits_of(x), upper = _mm512_srli_epi32(bits, 16), odd = _mm512_and_si512(upper, words(1));
    __m512i nearest = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, words(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i rounded = _mm512_mask_blend_epi32(nan, nearest, _mm512_or_si512(upper, words(0x40)));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(rounded));
}

/* The first n lanes; the others read as 0 and are not touched in memory. */
INLINE __mmask16 lanes_below(u32 n) { return (__mmask16)(0xffffu >> (16 - min_u32(n, 16))); }
INLINE vf vf_load_f32_n(const f32 *p, u32 n) { return _mm512_maskz_loadu_ps(lanes_below(n), p); }
INLINE void vf_store_n(f32 *p, vf x, u32 n) { _mm512_mask_storeu_ps(p, lanes_below(n), x); }

INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); } /* b where either is NaN */
INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE void vf_add_product(vf *sum, vf a, vf b) { *sum = vf_fma(a, b, *sum); }
enum { STEPS_AT_ONCE = 1 }; /* see `weights.h` */
INLINE vf vf_negative(vf a) { return of_bits(_mm512_xor_si512(bits_of(a), words(0x80000000))); }
INLINE vf vf_absolute(vf a) { return of_bits(_mm512_and_si512(bits_of(a), words(0x7fffffff))); }
INLINE vf vf_with_sign(vf a, vf s) /* the first operand chooses, bit by bit, between the others */
{
    return of_bits(_mm512_ternarylogic_epi32(words(0x80000000), bits_of(s), bits_of(a), 0xca));
}
INLINE vf vf_if_less(vf a, vf b, vf yes, vf no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
INLINE vf vf_keep(vf a, u32 n, vf other) { return _mm512_mask_blend_ps(lanes_below(n), other, a); } /* lanes below n of a */

/* x * 2^n by its exponent, where n is the whole number in the last bits of 0x1.8p23 + n; the result is normal. */
INLINE vf vf_raise(vf x, vf whole) { return of_bits(_mm512_add_epi32(bits_of(x), _mm512_slli_epi32(bits_of(whole), 23))); }

/* x = m * 2^n with m in 0.7071..1.4142, for positive normal x; returns n. */
INLINE vf vf_exponent(vf x, vf *m)
{
    __m512i n = _mm512_srai_epi32(_mm512_sub_epi32(bits_of(x), words(0x3f3504f3)), 23);
    *m = of_bits(_mm512_sub_epi32(bits_of(x), _mm512_slli_epi32(n, 23)));
    return _mm512_cvtepi32_ps(n);
}

/* Sum and largest of the lanes, as one tree: distances 8, 4, 2, 1. */
INLINE float vf_sum(vf a)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
INLINE float vf_largest(vf a)
{
    __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}
INLINE float vf_first(vf a) { return _mm_cvtss_f32(_mm512_castps512_ps128(a)); }

/* Weights as f32, even and odd k apart, see `weights.h`. */
INLINE void w_widen_bf16(const bf16 *w, vf *even, vf *odd)
{
    __m512i pairs = _mm512_loadu_si512(w);
    *even = of_bits(_mm512_slli_epi32(pairs, 16));
    *odd = of_bits(_mm512_and_si512(pairs, words(0xffff0000)));
}

/* Eight columns after conversion are even, odd, even, odd, ..; a shuffle parts them within quarters of a register, which
 * leaves columns 0 1 8 9 2 3 10 11 4 5 12 13 6 7 14 15. */
INLINE void w_widen_f16(const f16 *w, vf *even, vf *odd)
{
    vf low = vf_load_f16(w), high = vf_load_f16(w + 16);
    *even = _mm512_shuffle_ps(low, high, 0x88);
    *odd = _mm512_shuffle_ps(low, high, 0xdd);
}
INLINE vf w_columns_f16(vf sum)
{
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15), sum);
}
