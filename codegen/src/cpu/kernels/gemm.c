@store@
/* Activations into panels of @r@ rows, [blocks of k][@chains@ chains][row panels][BLOCK][R], so that what a tile reads
 * meanwhile lies together. In the last panel the last row stands in for those past the end. */
void @name@_prepare(const struct call *c, u32 begin, u32 end)
{
    enum { K = @k@, CHAINS = @chains@, DEPTH = @depth@, BLOCK = @block@, R = @r@ };
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    u32 rows = @rows@, row_panels = blocks_of(rows, R);
    for (u32 panel = begin; panel < end; panel++) {
        const f32 *from[R];
        for (u32 r = 0; r < R; r++) {
            from[r] = x + (u64)min_u32(panel * R + r, rows - 1) * @x_stride@;
@norm@
        }
        f32 *to = (f32 *)c->shared + (u64)panel * (BLOCK * R);
        for (u32 k = 0; k < DEPTH; k += BLOCK) for (u32 chain = 0; chain < CHAINS; chain++) {
            pack_rows(R, from, K, CHAINS, chain, k, min_u32(DEPTH - k, BLOCK), to);
            to += (u64)row_panels * (BLOCK * R);
        }
    }
}

/* A tile is a block of rows x a group of column panels. Tiles of the same columns follow each other, so that the
 * weights come from memory once. Within a tile, k advances by BLOCK: a block of activations stays in the second cache,
 * a piece of a column panel in the first, and the next piece is asked for while this one is used. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, CHAINS = @chains@, DEPTH = @depth@ };
    enum { BLOCK = @block@, R = @r@, ROW_PANELS = @row_panels@, GROUP = @group@, PIECE = BLOCK * 16 * CHAINS };
    const @type@ *weights = c->views[@w@];
    f32 *wide = c->local;                /* [CHAINS][BLOCK][16], a piece of a 16-bit panel as f32 */
    f32 *sums = wide + CHAINS * BLOCK * 16;  /* [GROUP][CHAINS][ROW_PANELS][R][16] */
    u32 rows = @rows@, row_panels_all = blocks_of(rows, R), row_blocks = blocks_of(row_panels_all, ROW_PANELS);
    for (u32 tile = begin; tile < end; tile++) {
        u32 row_panel = tile % row_blocks * ROW_PANELS, row_panels = min_u32(row_panels_all - row_panel, ROW_PANELS);
        u32 panel = tile / row_blocks * GROUP, panels = min_u32(PANELS - panel, GROUP);
        u32 first = row_panel * R, last = min_u32(first + row_panels * R, rows);
        for (u32 k = 0; k < DEPTH; k += BLOCK) {
            u32 depth = min_u32(DEPTH - k, BLOCK);
            const f32 *a = (const f32 *)c->shared + ((u64)k * CHAINS * row_panels_all + (u64)row_panel * BLOCK) * R;
            for (u32 p = 0; p < panels; p++) {
                const @type@ *column_panel = weights + (u64)(panel + p) * (DEPTH * 16 * CHAINS);
                /* Next in turn: the same k of the next panel, the next k of the first one, the next tile. */
                u32 in_group = p + 1 < panels, in_panel = k + BLOCK < DEPTH;
                u32 panel_next = in_group ? panel + p + 1 : in_panel ? panel : (tile + 1) / row_blocks * GROUP;
                u32 k_next = in_group ? k : in_panel ? k + BLOCK : 0;
                const char *next = (const char *)(weights + ((u64)panel_next * DEPTH + k_next) * (16 * CHAINS));
                struct ask ask = {next, next + PIECE * sizeof(@type@), blocks_of(16, row_panels * CHAINS + CHAINS - 1)};
                const f32 *b = widened_piece_@type@(column_panel + (u64)k * (16 * CHAINS), depth, BLOCK, wide, &ask);
                for (u32 chain = 0; chain < CHAINS; chain++) {
                    const f32 *a_chain = a + (u64)chain * row_panels_all * (BLOCK * R);
                    f32 *sum = sums + (p * CHAINS + chain) * (ROW_PANELS * R * 16);
                    for (u32 r = 0; r < row_panels; r++) {
                        outer_panel(R, last - first - r * R, depth, a_chain + (u64)r * (BLOCK * R), b + chain * (BLOCK * 16),
                                    sum + r * (R * 16), k > 0, &ask);
                    }
                }
            }
        }
        for (u32 row = first; row < last; row++) for (u32 p = 0; p < panels; p++) {
            const f32 *sum = sums + p * (CHAINS * ROW_PANELS * R * 16) + (row - first) * 16;
            @name@_store(c, row, (panel + p) * 16, w_columns_@type@(@fold@));
        }
    }
}
