/* Rows of activations: read, normalised, laid out for the products. */

INLINE vf load_some(const f32 *p, u32 n) { return n < 16 ? vf_load_f32_n(p, n) : vf_load(p); }
INLINE void store_some(f32 *p, vf x, u32 n) { if (n < 16) vf_store_n(p, x, n); else vf_store(p, x); }

/* The first n of 16 halves, as f32; the others read as 0 and are not touched in memory. */
INLINE vf vf_load_f16_n(const f16 *p, u32 n)
{
    f16 whole[16] = {0};
    for (u32 i = 0; i < n && i < 16; i++) whole[i] = p[i];
    return vf_load_f16(whole);
}
INLINE vf vf_load_bf16_n(const bf16 *p, u32 n)
{
    bf16 whole[16] = {0};
    for (u32 i = 0; i < n && i < 16; i++) whole[i] = p[i];
    return vf_load_bf16(whole);
}

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

/* to[width] = x[width] rounded to bf16; both may be the same. */
INLINE const f32 *round_row(const f32 *x, u32 width, f32 *to)
{
    for (u32 i = 0; i < width; i += 16) store_some(to + i, vf_round_bf16(load_some(x + i, width - i)), width - i);
    return to;
}

/* to[step][count]: up to six rows side by side, x's k = first + step. A k past the end gives zeros. */
INLINE void pack_rows(u32 count, const f32 *const *x, u32 width, u32 first, u32 steps, f32 *to)
{
    u32 there = first < width ? min_u32(steps, width - first) : 0;
    for (u32 step = 0; step < there; step++, to += count) {
        for (u32 r = 0; r < count; r++) to[r] = x[r][first + step];
    }
    for (u32 i = 0; i < (steps - there) * count; i++) to[i] = 0;
}

/* to[padded] = x[width] and zeros. */
INLINE void pad_row(const f32 *x, u32 width, u32 padded, f32 *to)
{
    for (u32 k = 0; k < padded; k++) to[k] = k < width ? x[k] : 0;
}
