/* What every generated file starts with: plain types, the arguments of a kernel, and small helpers.
 * Nothing here or below calls a library; the image imports nothing.
 *
 * A `vf` is 16 lanes of f32 in every class of processor, so a kernel's order of additions, and with it every
 * bit of its result, does not depend on how wide the registers are. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef u16 f16;  /* IEEE half, as bits */
typedef u16 bf16; /* the upper half of an f32, as bits */
typedef float f32;

/* What a worker came to of the cache: one head's part of a page counts once for each tile of attention. */
struct pages { u64 seen, skipped; };

/* One launch. `views`: inputs, then outputs. `dims`: the program's symbols (tokens, sequences, ..).
 * `shared`: scratch of this launch, the same for all workers. `local`: scratch of this worker. `pages`: where this
 * worker counts. */
struct call {
    void *const *views;
    const u32 *dims;
    void *shared;
    void *local;
    struct pages *pages;
};

#ifdef SMALL /* the plain definitions are compiled to be right, not fast */
#define INLINE static __attribute__((unused))
#else
#define INLINE static inline __attribute__((always_inline, unused))
#endif
/* What is too long to stand in every kernel that uses it. */
#define SHARED static __attribute__((noinline, unused, nonnull))

INLINE u32 min_u32(u32 a, u32 b) { return a < b ? a : b; }
INLINE u32 blocks_of(u32 count, u32 size) { return (count + size - 1) / size; }
INLINE float float_of_bits(u32 bits) { union { u32 u; float f; } v = {bits}; return v.f; }
INLINE u32 bits_of_float(float x) { union { float f; u32 u; } v = {x}; return v.u; }
INLINE float f32_of_f32(float x) { return x; }
INLINE float f32_of_bf16(bf16 h) { return float_of_bits((u32)h << 16); }
INLINE bf16 bf16_of_f32(float x) /* to the nearest, ties to even; a NaN stays one */
{
    u32 bits = bits_of_float(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return (bf16)(bits >> 16 | 0x40);
    return (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
