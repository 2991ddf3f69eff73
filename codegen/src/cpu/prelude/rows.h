/* Rows of activations: read, normalised, laid out for the products. */

INLINE vf load_some(const f32 *p, u32 n) { return n < 16 ? vf_load_f32_n(p, n) : vf_load(p); }
INLINE void store_some(f32 *p, vf x, u32 n) { if (n < 16) vf_store_n(p, x, n); else vf_store(p, x); }

/* The first n of 16 columns in the element type of memory. */
INLINE void store_some_f32(f32 *p, vf x, u32 n) { store_some(p, x, n); }
INLINE void store_some_f16(f16 *p, vf x, u32 n)
{
    f16 whole[16];
    if (n >= 16) { vf_store_f16(p, x); return; }
    vf_store_f16(whole, x);
    for (u32 i = 0; i < n; i++) p[i] = whole[i];
}
INLINE void store_some_bf16(bf16 *p, vf x, u32 n)
{
    bf16 whole[16];
    vf_store_bf16(whole, x);
    for (u32 i = 0; i < n && i < 16; i++) p[i] = whole[i];
}
INLINE void vf_store_f32(f32 *p, vf x) { vf_store(p, x); }

/* Rounded to 16 bits and widened again. */
INLINE vf vf_round_f16(vf x) { f16 h[16]; vf_store_f16(h, x); return vf_load_f16(h); }
INLINE vf vf_round_bf16(vf x) { bf16 h[16]; vf_store_bf16(h, x); return vf_load_bf16(h); }

/* to[chain][step][..], neighbours `stride` apart: x's k = step * chains + chain. No row (null) gives zeros. */
INLINE void pack_row(const f32 *x, u32 width, u32 chains, u32 depth, u32 stride, f32 *to)
{
    for (u32 chain = 0; chain < chains; chain++) {
        for (u32 step = 0; step < depth; step++, to += stride) {
            u32 k = step * chains + chain;
            *to = x && k < width ? x[k] : 0;
        }
    }
}

/* to[step][row][pair]: x's k = step * pair + i goes to to[step * rows * pair + i]. */
INLINE void pack_pairs(const f32 *x, u32 width, u32 pair, u32 steps, u32 rows, f32 *to)
{
    for (u32 k = 0; k < steps * pair; k++) to[k / pair * (rows * pair) + k % pair] = k < width ? x[k] : 0;
}
