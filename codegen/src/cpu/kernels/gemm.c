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
    enum { WIDE = CHAINS * BLOCK * 16, SUMS = ROW_PANELS * R * 16 };
    const @type@ *weights = c->views[@w@];
    f32 *wide = c->local;            /* [PANELS_AT_ONCE][CHAINS][BLOCK][16], pieces of 16-bit panels as f32 */
    f32 *sums = wide + PANELS_AT_ONCE * WIDE; /* [GROUP][CHAINS][ROW_PANELS][R][16] */
    u32 rows = @rows@, row_panels_all = blocks_of(rows, R), row_blocks = blocks_of(row_panels_all, ROW_PANELS);
    for (u32 tile = begin; tile < end; tile++) {
        u32 row_panel = tile % row_blocks * ROW_PANELS, row_panels = min_u32(row_panels_all - row_panel, ROW_PANELS);
        u32 panel = tile / row_blocks * GROUP, panels = min_u32(PANELS - panel, GROUP);
        u32 first = row_panel * R, last = min_u32(first + row_panels * R, rows);
        for (u32 k = 0; k < DEPTH; k += BLOCK) {
            u32 depth = min_u32(DEPTH - k, BLOCK);
            const f32 *a = (const f32 *)c->shared + ((u64)k * CHAINS * row_panels_all + (u64)row_panel * BLOCK) * R;
            for (u32 p = 0; p < panels; p += PANELS_AT_ONCE) {
                u32 columns = min_u32(panels - p, PANELS_AT_ONCE);
                /* Next in turn: the same k of the next panel, the next k of the first one, the next tile. */
                u32 in_group = p + columns < panels, in_panel = k + BLOCK < DEPTH;
                u32 panel_next = in_group ? panel + p + columns : in_panel ? panel : (tile + 1) / row_blocks * GROUP;
                u32 k_next = in_group ? k : in_panel ? k + BLOCK : 0;
                const char *next = (const char *)(weights + ((u64)panel_next * DEPTH + k_next) * (16 * CHAINS));
                struct ask ask = {next, next + PIECE * sizeof(@type@), blocks_of(16, row_panels * CHAINS + CHAINS - 1)};
                const @type@ *piece = weights + ((u64)(panel + p) * DEPTH + k) * (16 * CHAINS);
                const f32 *b = widened_pieces_@type@(piece, columns, DEPTH * 16 * CHAINS, depth, BLOCK, wide, &ask);
                for (u32 chain = 0; chain < CHAINS; chain++) for (u32 r = 0; r < row_panels; r += PANELS_AT_ONCE) {
                    struct tile t = {
                        .a = a + ((u64)chain * row_panels_all + r) * (BLOCK * R), .a_panel = BLOCK * R,
                        .b = b + chain * (BLOCK * 16), .b_panel = @b_panel@,
                        .sums = sums + (p * CHAINS + chain) * SUMS + r * (R * 16), .rows_on = R * 16, .columns_on = CHAINS * SUMS,
                        .depth = depth, .add = k > 0,
                    };
                    outer_tile(R, last - first - r * R, columns, t, &ask);
                }
            }
        }
        for (u32 row = first; row < last; row++) for (u32 p = 0; p < panels; p++) {
            const f32 *sum = sums + p * (CHAINS * SUMS) + (row - first) * 16;
            @name@_store(c, row, (panel + p) * 16, w_columns_@type@(@fold@));
        }
    }
}
