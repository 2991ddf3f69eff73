/* What the classes of x86-64 have in common: the intrinsics, the scalars, the prefetch. */
#define _MM_MALLOC_H_INCLUDED /* the intrinsics' header would pull in the C library's */
#define __MM_MALLOC_H
#include <immintrin.h>

INLINE float f32_of_f16(f16 h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
INLINE f16 f16_of_f32(float x) { return (f16)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT)); }
INLINE float fma_f32(float a, float b, float c) { return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c))); }

INLINE void prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
INLINE void prefetch_far(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); } /* into the second cache */
