/* AVX-512 by SIMDe, for processors without it: included before everything else, it takes the place of the intrinsics
 * that `prelude/v4.h` uses. What SIMDe 0.7.4 lacks follows, by its halves or lane by lane. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#undef _MM_MALLOC_H_INCLUDED /* the prelude defines them in turn */
#undef __MM_MALLOC_H

#define SHIM static inline __attribute__((always_inline, unused))

typedef union { simde__m512 ps; simde__m512i si; simde__m256 half_ps[2]; simde__m256i half_si[2]; int at[16]; float f[16]; } shim;

SHIM simde__m512 shim_cvtph_ps(simde__m256i h)
{
    shim r;
    r.half_ps[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
    r.half_ps[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
    return r.ps;
}
SHIM simde__m256i shim_cvtps_ph(simde__m512 x)
{
    shim v = {.ps = x};
    return _mm256_set_m128i(_mm256_cvtps_ph(v.half_ps[1], _MM_FROUND_TO_NEAREST_INT), _mm256_cvtps_ph(v.half_ps[0], _MM_FROUND_TO_NEAREST_INT));
}
SHIM simde__m512 shim_maskz_loadu_ps(unsigned mask, const float *p)
{
    shim r;
    for (int i = 0; i < 16; i++) r.f[i] = mask >> i & 1 ? p[i] : 0;
    return r.ps;
}
SHIM void shim_mask_storeu_ps(float *p, unsigned mask, simde__m512 x)
{
    shim v = {.ps = x};
    for (int i = 0; i < 16; i++) if (mask >> i & 1) p[i] = v.f[i];
}
SHIM simde__m256i shim_maskz_loadu_epi16(unsigned mask, const unsigned short *p)
{
    union { simde__m256i si; unsigned short at[16]; } r;
    for (int i = 0; i < 16; i++) r.at[i] = mask >> i & 1 ? p[i] : 0;
    return r.si;
}
SHIM simde__m256i shim_cvtepi32_epi16(simde__m512i x)
{
    shim v = {.si = x};
    union { simde__m256i si; unsigned short at[16]; } r;
    for (int i = 0; i < 16; i++) r.at[i] = (unsigned short)v.at[i];
    return r.si;
}
SHIM simde__m512i shim_cvtepu16_epi32(simde__m256i h)
{
    shim r;
    r.half_si[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(h));
    r.half_si[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1));
    return r.si;
}
SHIM simde__m512i shim_srai_epi32(simde__m512i x, int by)
{
    shim v = {.si = x};
    for (int i = 0; i < 2; i++) v.half_si[i] = _mm256_srai_epi32(v.half_si[i], by);
    return v.si;
}
SHIM simde__m512 shim_cvtepi32_ps(simde__m512i x)
{
    shim v = {.si = x};
    for (int i = 0; i < 2; i++) v.half_ps[i] = _mm256_cvtepi32_ps(v.half_si[i]);
    return v.ps;
}
SHIM simde__m256 shim_extract(simde__m512 x, int half) { shim v = {.ps = x}; return v.half_ps[half]; }

#undef _mm512_cvtps_ph
#undef _mm512_extractf32x8_ps
#undef _mm512_srai_epi32
#define _mm512_cvtph_ps shim_cvtph_ps
#define _mm512_cvtps_ph(x, rounding) shim_cvtps_ph(x)
#define _mm512_maskz_loadu_ps shim_maskz_loadu_ps
#define _mm512_mask_storeu_ps shim_mask_storeu_ps
#define _mm256_maskz_loadu_epi16 shim_maskz_loadu_epi16
#define _mm512_cvtepi32_epi16 shim_cvtepi32_epi16
#define _mm512_cvtepu16_epi32 shim_cvtepu16_epi32
#define _mm512_extractf32x8_ps shim_extract
#define _mm512_srai_epi32 shim_srai_epi32
#define _mm512_cvtepi32_ps shim_cvtepi32_ps
