/* Packed weights and the two ways through them.
 *
 * A weight w[K, N] lies in panels of 16 output columns. f32: [N/16][K][16]. f16 and bf16 go in pairs along k:
 * [N/16][K/2][16][2], so that a column's two neighbours share one 32-bit word. Missing columns and a missing last
 * k are zeros. Each output is one chain of FMA over ascending k.
 *
 * `w_widen` makes two vectors of f32 of 64 bytes of a pair's panel, the even k and the odd k of 16 columns; these may
 * come in an order that is cheap, and `w_columns` sets the sums right once, at the end. One row goes straight through
 * the panel (`streams.h`). For more rows a piece of the panel is first widened, k after k, and every kind of weight
 * goes through the same outer products. */
INLINE void w_widen_f32(const f32 *w, vf *even, vf *odd) { *even = vf_load(w), *odd = vf_zero(); }
INLINE vf w_columns_f32(vf sum) { return sum; }
INLINE vf w_columns_bf16(vf sum) { return sum; }

#define EACH_OF_4(X) X(0) X(1) X(2) X(3)
#define EACH_OF_6(X) X(0) X(1) X(2) X(3) X(4) X(5)

/* Memory that will be wanted: asked for a few lines of 64 bytes at a time, between steps of what is done meanwhile. */
struct ask { const char *next, *end; u32 lines; };

INLINE void ask_some(struct ask *ask)
{
    for (u32 i = 0; i < ask->lines && ask->next < ask->end; i++, ask->next += 64) prefetch_far(ask->next);
}

/* tile(r, 0..15) = (add ? tile : 0) + sum over k < depth of a(r, k) * b(k, 0..15), r < rows <= 6, where a row of the
 * tile is tile_row on, a(r, k) = a[r * a_row + k * a_step] and b(k, j) = b[k * b_step + j]. Six rows fill the registers
 * of v3. Accumulators have names of their own because arrays of them would live in memory. */
INLINE void outer_asking(u32 rows, u32 depth, const f32 *a, u32 a_row, u32 a_step, const f32 *b, u32 b_step, f32 *tile, u32 tile_row,
                         u32 add, struct ask *ask)
{
#define START(r) vf sum##r = rows > r && add ? vf_load(tile + r * tile_row) : vf_zero();
#define STEP(r) if (rows > r) sum##r = vf_fma(vf_all(a[r * a_row]), column, sum##r);
#define STORE(r) if (rows > r) vf_store(tile + r * tile_row, sum##r);
    EACH_OF_6(START)
    for (u32 k = 0, pause; k < depth;) {
        pause = ask ? min_u32(depth, k + 16) : depth;
        if (ask) ask_some(ask);
        for (; k < pause; k++, a += a_step, b += b_step) {
            vf column = vf_load(b);
            EACH_OF_6(STEP)
        }
    }
    EACH_OF_6(STORE)
#undef START
#undef STEP
#undef STORE
}

INLINE void outer(u32 rows, u32 depth, const f32 *a, u32 a_row, u32 a_step, const f32 *b, u32 b_step, f32 *tile, u32 tile_row, u32 add)
{
    outer_asking(rows, depth, a, a_row, a_step, b, b_step, tile, tile_row, add, 0);
}

/* The same for a panel [depth][panel_rows] of which `rows` count, and a piece [depth][16] of a panel of columns. */
INLINE void outer_panel(u32 panel_rows, u32 rows, u32 depth, const f32 *a, const f32 *b, f32 *tile, u32 add, struct ask *ask)
{
    switch (min_u32(rows, panel_rows)) {
    case 1: outer_asking(1, depth, a, 1, panel_rows, b, 16, tile, 16, add, ask); break;
    case 2: outer_asking(2, depth, a, 1, panel_rows, b, 16, tile, 16, add, ask); break;
    case 3: outer_asking(3, depth, a, 1, panel_rows, b, 16, tile, 16, add, ask); break;
    case 4: outer_asking(4, depth, a, 1, panel_rows, b, 16, tile, 16, add, ask); break;
    case 5: outer_asking(5, depth, a, 1, panel_rows, b, 16, tile, 16, add, ask); break;
    case 6: outer_asking(6, depth, a, 1, panel_rows, b, 16, tile, 16, add, ask); break;
    }
}

/* How many panels of rows, and how many of columns, are multiplied at once: as many as fit the registers. A class with
 * 32 of them says 2 in its own file. */
#ifndef PANELS_AT_ONCE
#define PANELS_AT_ONCE 1
#endif

/* What a register tile reads and writes: panels of rows `a_panel` apart, pieces of column panels `b_panel` apart, and
 * sums, of which the next rows' lie `rows_on`, the next columns' `columns_on` further. */
struct tile { const f32 *a, *b; f32 *sums; u32 a_panel, b_panel, rows_on, columns_on, depth, add; };

#if PANELS_AT_ONCE == 2
#define EACH_OF_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

/* Two panels of rows times two of columns, all rows there. */
INLINE void outer_two_by_two(u32 panel_rows, struct tile t, struct ask *ask)
{
#define A(r) (r / panel_rows * t.a_panel + r % panel_rows)
#define SUM(r, p) (t.sums + r / panel_rows * t.rows_on + r % panel_rows * 16 + p * t.columns_on)
#define START(r) \
    vf left##r = 2 * panel_rows > r && t.add ? vf_load(SUM(r, 0)) : vf_zero(); \
    vf right##r = 2 * panel_rows > r && t.add ? vf_load(SUM(r, 1)) : vf_zero();
#define STEP(r) if (2 * panel_rows > r) { \
        vf x = vf_all(a[A(r)]); \
        left##r = vf_fma(x, b_left, left##r); \
        right##r = vf_fma(x, b_right, right##r); \
    }
#define STORE(r) if (2 * panel_rows > r) vf_store(SUM(r, 0), left##r), vf_store(SUM(r, 1), right##r);
    const f32 *a = t.a, *b = t.b;
    EACH_OF_12(START)
    for (u32 k = 0, pause; k < t.depth;) {
        pause = min_u32(t.depth, k + 16);
        ask_some(ask);
        for (; k < pause; k++, a += panel_rows, b += 16) {
            vf b_left = vf_load(b), b_right = vf_load(b + t.b_panel);
            EACH_OF_12(STEP)
        }
    }
    EACH_OF_12(STORE)
#undef A
#undef SUM
#undef START
#undef STEP
#undef STORE
}
#endif

/* `rows` rows, of panels of `panel_rows`, times `columns` column panels, up to PANELS_AT_ONCE of each. */
INLINE void outer_tile(u32 panel_rows, u32 rows, u32 columns, struct tile t, struct ask *ask)
{
#if PANELS_AT_ONCE == 2
    if (rows >= 2 * panel_rows && columns == 2) {
        outer_two_by_two(panel_rows, t, ask);
        return;
    }
#endif
    for (u32 r = 0; r < PANELS_AT_ONCE && r * panel_rows < rows; r++) for (u32 p = 0; p < columns; p++) {
        outer_panel(panel_rows, rows - r * panel_rows, t.depth, t.a + r * t.a_panel, t.b + p * t.b_panel,
                    t.sums + r * t.rows_on + p * t.columns_on, t.add, ask);
    }
}

/* Pieces of `columns` neighbouring panels, `panel` elements apart, as f32 [depth][16], `wide` apart; the depth is even.
 * Those of f32 stay where they are. */
INLINE const f32 *widened_pieces_f32(const f32 *piece, u32 columns, u32 panel, u32 depth, u32 wide, f32 *to, struct ask *ask)
{
    (void)columns, (void)panel, (void)depth, (void)wide, (void)to, (void)ask;
    return piece;
}
#define WIDENED_PIECES(type) \
INLINE const f32 *widened_pieces_##type(const type *piece, u32 columns, u32 panel, u32 depth, u32 wide, f32 *to, struct ask *ask) \
{ \
    for (u32 p = 0; p < columns; p++) for (u32 k = 0; k < depth; k += 2) { \
        f32 *at = to + p * wide + k * 16; \
        vf even, odd; \
        if (k % 32 == 0) ask_some(ask); \
        w_widen_##type(piece + (u64)p * panel + k * 16, &even, &odd); \
        vf_store(at, even); \
        vf_store(at + 16, odd); \
    } \
    return to; \
}
WIDENED_PIECES(f16)
WIDENED_PIECES(bf16)
#undef WIDENED_PIECES
