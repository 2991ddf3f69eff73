/* Packed weights and the two ways through them.
 *
 * A weight w[K, N] lies in panels of 16 output columns. f32: [N/16][K][16]. f16 and bf16 go in pairs along k:
 * [N/16][K/2][16][2], so that a column's two neighbours share one 32-bit word. Missing columns and a missing last
 * k are zeros. Each output is one chain of FMA over ascending k (f32), or two, even k and odd k, added at the end.
 *
 * Straight from the panel (few rows): 64 bytes of it are two vectors X and Y (f32: only X), whose multiplicands
 * a_x and a_y come from one activation pair, and w_sum folds the two accumulators into 16 columns:
 *   f16   X = columns 0-7, Y = columns 8-15, each even, odd, even, odd, ..: the converter widens them as they lie;
 *   bf16  X = even k (a shift), Y = odd k (a mask), all 16 columns.
 * For many rows a block of the panel is first widened to f32, even and odd k apart, and both kinds of weight go
 * through the same outer products. */
INLINE vf w_x_f32(const f32 *w) { return vf_load(w); }
INLINE vf w_y_f32(const f32 *w) { (void)w; return vf_zero(); }
INLINE vf a_x_f32(const f32 *a) { return vf_all(a[0]); }
INLINE vf a_y_f32(const f32 *a) { (void)a; return vf_zero(); }
INLINE vf w_sum_f32(vf x, vf y) { (void)y; return x; }

#define EACH_OF_6(X) X(0) X(1) X(2) X(3) X(4) X(5)

/* tile[rows][16] = (add ? tile : 0) + sum over k < depth of a(r, k) * b(k, 0..15), rows <= 6,
 * where a(r, k) = a[r * a_row + k * a_step] and b(k, j) = b[k * b_step + j]. Six rows fill the registers of v3.
 * Accumulators have names of their own because arrays of them would live in memory. Meanwhile memory that will be
 * wanted is asked for, `ask` bytes a step from `next` on. */
INLINE void outer_asking(u32 rows, u32 depth, const f32 *a, u32 a_row, u32 a_step, const f32 *b, u32 b_step, f32 *tile, u32 add,
                         const char *next, u32 ask)
{
#define START(r) vf sum##r = rows > r && add ? vf_load(tile + r * 16) : vf_zero();
#define STEP(r) if (rows > r) sum##r = vf_fma(vf_all(a[r * a_row]), column, sum##r);
#define STORE(r) if (rows > r) vf_store(tile + r * 16, sum##r);
    EACH_OF_6(START)
    for (u32 k = 0; k < depth; k++, a += a_step, b += b_step, next += ask) {
        vf column = vf_load(b);
        if (next) prefetch_far(next);
        EACH_OF_6(STEP)
    }
    EACH_OF_6(STORE)
#undef START
#undef STEP
#undef STORE
}

#define EACH_OF_4(X) X(0) X(1) X(2) X(3)

INLINE void outer(u32 rows, u32 depth, const f32 *a, u32 a_row, u32 a_step, const f32 *b, u32 b_step, f32 *tile, u32 add)
{
    outer_asking(rows, depth, a, a_row, a_step, b, b_step, tile, add, 0, 0);
}

/* to[depth][16]: the even or the odd k of a piece of a 16-bit panel, as f32. */
INLINE const f32 *widened_half_f16(const f16 *piece, u32 depth, u32 odd, f32 *to)
{
    for (u32 k = 0; k < depth; k++) vf_store(to + k * 16, odd ? w_half_f16(piece + k * 32, 1) : w_half_f16(piece + k * 32, 0));
    return to;
}
INLINE const f32 *widened_half_bf16(const bf16 *piece, u32 depth, u32 odd, f32 *to)
{
    for (u32 k = 0; k < depth; k++) vf_store(to + k * 16, odd ? w_half_bf16(piece + k * 32, 1) : w_half_bf16(piece + k * 32, 0));
    return to;
}
