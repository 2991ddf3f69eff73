/* Packed weights and the two ways through them.
 *
 * A weight w[K, N] lies in panels of 16 output columns. f32: [N/16][K][16]. f16 and bf16 go in pairs along k:
 * [N/16][K/2][16][2], so that a column's two neighbours share one 32-bit word. Missing columns and a missing last
 * k are zeros. Each output is one chain of FMA over ascending k.
 *
 * `w_widen` makes two vectors of f32 of 64 bytes of a pair's panel, the even k and the odd k of 16 columns; these may
 * come in an order that is cheap, and `w_columns` sets the sums right once, at the end. One row goes straight through
 * the panel (`streams.h`). For more rows a piece of the panel is first widened, k after k, and every kind of weight
 * goes through the same outer products, of PANELS_AT_ONCE panels of rows with as many of columns: as many as fit the
 * registers, 1 with 16 of them, 2 with 32. */
INLINE void w_widen_f32(const f32 *w, vf *even, vf *odd) { *even = vf_load(w), *odd = vf_zero(); }
INLINE vf w_columns_f32(vf sum) { return sum; }
INLINE vf w_columns_bf16(vf sum) { return sum; }

#define EACH_OF_4(X) X(0) X(1) X(2) X(3)

/* Memory that will be wanted: asked for a few lines of 64 bytes at a time, between steps of what is done meanwhile. */
struct ask { const char *next, *end; u32 lines; };

INLINE void ask_some(struct ask *ask)
{
    for (u32 i = 0; i < ask->lines && ask->next < ask->end; i++, ask->next += 64) prefetch_far(ask->next);
}

/* The same of every panel that is multiplied at once, if there is anything to ask for. */
INLINE void ask_panels(struct ask *ask)
{
    for (u32 p = 0; p < PANELS_AT_ONCE && ask; p++) ask_some(&ask[p]);
}

/* An outer product that fills the registers: sums(r, j) = (add ? sums : 0) + sum over k < depth of a(r, k) * b(k, j). Rows
 * lie in panels of `panel_rows`, columns in panels of 16:
 *     a(r, k)    at a + r / panel_rows * a_panel + r % panel_rows * a_row + k * a_step
 *     b(k, j)    at b + j / 16 * b_panel + k * b_step + j % 16
 *     sums(r, j) at sums + r / panel_rows * sums_panel + r % panel_rows * sums_row + j / 16 * sums_columns + j % 16 */
struct outer {
    const f32 *a, *b;
    f32 *sums;
    u32 panel_rows, a_panel, a_row, a_step, b_panel, b_step, sums_panel, sums_row, sums_columns, depth, add;
};

#if PANELS_AT_ONCE == 2
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#else
#define EACH_ROW(X) X(0) X(1) X(2) X(3) X(4) X(5)
#endif

/* `rows` rows and `columns` panels of columns, both known where this is called. Sums have names of their own because
 * arrays of them would live in memory; k advances by STEPS_AT_ONCE, so that counting takes few instructions beside products. */
INLINE void outer(u32 rows, u32 columns, struct outer o, struct ask *ask)
{
#define A(r) (r / o.panel_rows * o.a_panel + r % o.panel_rows * o.a_row)
#define SUMS(r) (o.sums + r / o.panel_rows * o.sums_panel + r % o.panel_rows * o.sums_row)
#define START(r) \
    vf left##r = rows > r && o.add ? vf_load(SUMS(r)) : vf_zero(); \
    vf right##r = rows > r && columns > 1 && o.add ? vf_load(SUMS(r) + o.sums_columns) : vf_zero();
#define STEP(r) if (rows > r) { \
        vf x = vf_all(a_k[A(r)]); \
        vf_add_product(&left##r, x, b_left); \
        if (columns > 1) vf_add_product(&right##r, x, b_right); \
    }
#define STEPS(count) \
    for (u32 i = 0; i < count; i++) { \
        const f32 *a_k = a + i * o.a_step, *b_k = b + i * o.b_step; \
        vf b_left = vf_load(b_k), b_right = columns > 1 ? vf_load(b_k + o.b_panel) : b_left; \
        EACH_ROW(STEP) \
    } \
    k += count, a += count * o.a_step, b += count * o.b_step;
#define STORE(r) if (rows > r) vf_store(SUMS(r), left##r); \
    if (rows > r && columns > 1) vf_store(SUMS(r) + o.sums_columns, right##r);
    const f32 *a = o.a, *b = o.b;
    EACH_ROW(START)
    u32 k = 0;
    while (k + 16 <= o.depth) {
        ask_panels(ask);
        for (u32 pause = k + 16; k < pause;) {
            _Pragma("GCC unroll 4") STEPS(STEPS_AT_ONCE)
        }
    }
    if (k < o.depth) ask_panels(ask);
    while (k < o.depth) {
        STEPS(1)
    }
    EACH_ROW(STORE)
#undef A
#undef SUMS
#undef START
#undef STEP
#undef STEPS
#undef STORE
}

/* Rows of up to PANELS_AT_ONCE panels times as many panels of columns, for any number of both. Two by two, an odd number of
 * rows takes one more, which the panel has: so there is code for half as many sizes. */
INLINE void outer_some(u32 rows, u32 columns, struct outer o, struct ask *ask)
{
    if (PANELS_AT_ONCE == 2 && columns == 2) switch (blocks_of(min_u32(rows, 2 * o.panel_rows), 2)) {
    case 1: outer(2, 2, o, ask); return;
    case 2: outer(4, 2, o, ask); return;
    case 3: outer(6, 2, o, ask); return;
    case 4: outer(8, 2, o, ask); return;
    case 5: outer(10, 2, o, ask); return;
    case 6: outer(12, 2, o, ask); return;
    }
    for (u32 r = 0; r < PANELS_AT_ONCE && r * o.panel_rows < rows; r++, o.a += o.a_panel, o.sums += o.sums_panel) {
        switch (min_u32(rows - r * o.panel_rows, o.panel_rows)) {
        case 1: outer(1, 1, o, ask); break;
        case 2: outer(2, 1, o, ask); break;
        case 3: outer(3, 1, o, ask); break;
        case 4: outer(4, 1, o, ask); break;
        case 5: outer(5, 1, o, ask); break;
        case 6: outer(6, 1, o, ask); break;
        }
    }
}

/* All rows of a tile with a piece of as many column panels as are multiplied at once. `o` says where the first of them lie,
 * in panels of R rows side by side, and how deep they are; `ask_rows` is asked for with every tile of registers. A function
 * of its own, once in an image: it was most of the code of every product. */
#define OUTER_TILE(R) \
SHARED void outer_tile_##R(u32 rows, u32 columns, const struct outer *tile, struct ask *ask_rows, struct ask *ask) \
{ \
    struct outer o = *tile; \
    o.panel_rows = R, o.a_row = 1, o.a_step = R, o.b_step = 16, o.sums_panel = R * 16, o.sums_row = 16; \
    for (u32 r = 0; r < rows; r += PANELS_AT_ONCE * R) { \
        ask_some(ask_rows); \
        outer_some(rows - r, columns, o, ask); \
        o.a += PANELS_AT_ONCE * o.a_panel, o.sums += PANELS_AT_ONCE * o.sums_panel; \
    } \
}
OUTER_TILE(4)
OUTER_TILE(6)
#undef OUTER_TILE

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
        if (k % 32 == 0) ask_panels(ask); \
        w_widen_##type(piece + (u64)p * panel + k * 16, &even, &odd); \
        vf_store(at, even); \
        vf_store(at + 16, odd); \
    } \
    return to; \
}
WIDENED_PIECES(f16)
WIDENED_PIECES(bf16)
#undef WIDENED_PIECES
