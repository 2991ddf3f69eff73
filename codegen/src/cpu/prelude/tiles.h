/* Products on matrix tiles: 16 rows of 64 bytes each, multiplied by one instruction.
 *
 * Sixteen pairs of a bf16 panel, [16][16][2], are a right tile as they lie; a left tile is 16 rows of 32 k. Their
 * product adds to 16 x 16 sums of f32: per sum a chain of FMA over the tile's even k and one over its odd k, both from
 * zero, then (even + odd), then sum + that; numbers below 2^-126 count as zero. So a sum's bits depend on its row and its
 * column alone: not on the rows beside it, the number of rows, or the blocks that k is cut into.
 *
 * Activations are f32. As three pieces of bf16 they are whole but for their last bit or so: a row becomes three rows of
 * the same product, whose sums are added at the end, the smallest first. Where the model says that products take
 * activations of bf16, one piece is all there is.
 *
 * Eight tiles: 0 to 3 are sums, 4 and 5 left, 6 and 7 right. A class defines, beside this, `struct tiles` and
 * tiles_begin, tile_zero, tile_load, tile_store, tile_product, tiles_end. Tiles are loaded from and stored to memory that
 * lies together, 64 bytes a row. */
enum { TILE = 512, SUMS = 256 }; /* elements of a left or right tile, and of sums */

/* The next piece of x, and what it leaves: x less what bf16 holds of it. Nothing is left of infinities and NaN. */
INLINE vf next_piece(vf x, bf16 *to)
{
    vf_store_bf16(to, x);
    vf held = vf_load_bf16(to);
    return vf_if_less(vf_absolute(held), vf_all(__builtin_inff()), vf_sub(x, held), vf_zero());
}

/* Row `row` of a panel, x[width], as `pieces` rows of left tiles: row * pieces + piece of [row tiles][block][16][32], where
 * the next block of k lies block_on elements further. A k past the end gives zeros. */
INLINE void pack_pieces(u32 pieces, const f32 *x, u32 width, u32 row, u32 k_tiles, u32 block, u64 block_on, bf16 *to)
{
    for (u32 k = 0; k < k_tiles * 32; k += 16) {
        bf16 *tile = to + k / 32 / block * block_on + k / 32 % block * TILE + k % 32;
        vf left = k < width ? load_some(x + k, width - k) : vf_zero();
        for (u32 piece = 0; piece < pieces; piece++) {
            u32 at = row * pieces + piece;
            left = next_piece(left, tile + (u64)(at / 16) * block * TILE + at % 16 * 32);
        }
    }
}

/* The last `pairs` of a panel as a right tile of its own, with zeros for those past the panel's end. */
INLINE void copy_tail(const bf16 *from, u32 pairs, bf16 *to)
{
    for (u32 i = 0; i < TILE; i++) to[i] = i < pairs * 32 ? from[i] : 0;
}

/* What a step over k reads and writes. Left tiles follow each other along k; those of the second 16 rows lie `a_on`
 * further. Right tiles likewise, those of the next panel `b_on` further. Sums of the second 16 rows follow those of the
 * first, those of the next panel lie `sums_on` further. `tails` are right tiles beside each other that come last, if
 * there are any. How far ahead to ask for right tiles: 0 for not at all; left tiles come fast enough unasked. */
struct tile_step {
    const bf16 *a, *b, *tails;
    f32 *sums;
    u32 a_on, b_on, sums_on, depth, add, b_ahead;
};

INLINE void ask_for_tile(const bf16 *tile)
{
    for (u32 i = 0; i < TILE; i += 32) prefetch(tile + i);
}

/* sums = (add ? sums : 0) + a b for one row tile times up to four panels, or two times two. Sums stay in their tiles
 * meanwhile, and memory in `ask` is asked for: the first half of it in even steps, the second in odd ones. */
INLINE void multiply_tiles_of(struct tiles *tiles, u32 row_tiles, u32 panels, struct tile_step t, struct ask *ask)
{
#define EACH_SUM(X) \
    X(0, t.sums) \
    if (panels > 1) X(1, t.sums + t.sums_on) \
    if (row_tiles > 1) X(2, t.sums + SUMS) \
    if (row_tiles > 1 && panels > 1) X(3, t.sums + t.sums_on + SUMS) \
    if (panels > 2) X(2, t.sums + 2 * t.sums_on) \
    if (panels > 3) X(3, t.sums + 3 * t.sums_on)
#define START(tile, at) { if (t.add) tile_load(tiles, tile, at); else tile_zero(tiles, tile); }
#define STORE(tile, at) tile_store(tiles, tile, at);
#define RIGHT(tile, at) { if (t.b_ahead) ask_for_tile(at + t.b_ahead); tile_load(tiles, tile, at); }
#define STEP(b, b_on) { \
        tile_load(tiles, 4, a); \
        RIGHT(6, b) \
        tile_product(tiles, 0, 4, 6); \
        if (panels > 1) { RIGHT(7, b + b_on) tile_product(tiles, 1, 4, 7); } \
        if (row_tiles > 1) { tile_load(tiles, 5, a + t.a_on); tile_product(tiles, 2, 5, 6); } \
        if (row_tiles > 1 && panels > 1) tile_product(tiles, 3, 5, 7); \
        if (panels > 2) { RIGHT(6, b + 2 * b_on) tile_product(tiles, 2, 4, 6); } \
        if (panels > 3) { RIGHT(7, b + 3 * b_on) tile_product(tiles, 3, 4, 7); } \
    }
    const bf16 *a = t.a, *b = t.b;
    (void)tiles; /* assembly names tiles by number */
    EACH_SUM(START)
    for (u32 k = 0; k < t.depth; k++, a += TILE, b += TILE) {
        ask_some(&ask[k % 2]);
        STEP(b, t.b_on)
    }
    t.b_ahead = 0;
    if (t.tails) STEP(t.tails, TILE)
    EACH_SUM(STORE)
#undef EACH_SUM
#undef START
#undef STORE
#undef RIGHT
#undef STEP
}

INLINE void multiply_tiles(struct tiles *tiles, u32 row_tiles, u32 panels, struct tile_step t, struct ask *ask)
{
    switch (row_tiles * 8 + panels) {
    case 9: multiply_tiles_of(tiles, 1, 1, t, ask); break;
    case 10: multiply_tiles_of(tiles, 1, 2, t, ask); break;
    case 11: multiply_tiles_of(tiles, 1, 3, t, ask); break;
    case 12: multiply_tiles_of(tiles, 1, 4, t, ask); break;
    case 17: multiply_tiles_of(tiles, 2, 1, t, ask); break;
    case 18: multiply_tiles_of(tiles, 2, 2, t, ask); break;
    }
}

/* A row's sum: of its pieces, the smallest first. */
INLINE vf sum_of_pieces(u32 pieces, const f32 *sums)
{
    if (pieces == 1) return vf_load(sums);
    return vf_add(vf_add(vf_load(sums + 32), vf_load(sums + 16)), vf_load(sums));
}
