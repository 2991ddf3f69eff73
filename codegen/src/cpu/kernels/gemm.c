@store@
/* Activations into panels of @r@ rows, [blocks of k][row panels][BLOCK][R], so that what a tile reads meanwhile lies
 * together. In the last panel the last row stands in for those past the end. */
void @name@_prepare(const struct call *c, u32 begin, u32 end)
{
    enum { K = @k@, DEPTH = @depth@, BLOCK = @block@, R = @r@ };
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    u32 rows = @rows@, row_panels = blocks_of(rows, R);
    for (u32 panel = begin; panel < end; panel++) {
        const f32 *from[R];
        for (u32 r = 0; r < R; r++) {
            from[r] = x + (u64)min_u32(panel * R + r, rows - 1) * @x_stride@;
@ready@
        }
        f32 *to = (f32 *)c->shared + (u64)panel * (BLOCK * R);
        for (u32 k = 0; k < DEPTH; k += BLOCK, to += (u64)row_panels * (BLOCK * R)) {
            pack_rows(R, from, K, k, min_u32(DEPTH - k, BLOCK), to);
        }
    }
}

/* A tile is a block of rows x a group of column panels. Tiles of the same columns follow each other, so that the
 * weights come from memory once. Within a tile, k advances by BLOCK: a block of activations stays in the second cache,
 * a piece of a column panel in the first, and the next piece is asked for while this one is used. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, DEPTH = @depth@, BLOCK = @block@, PAIR = @pair@ };
    enum { R = @r@, ROW_PANELS = @row_panels@, GROUP = @group@, PIECE = BLOCK * 16, SUMS = ROW_PANELS * R * 16 };
    enum { ROW_LINES = (BLOCK * R / 16 * PANELS_AT_ONCE * PANELS_AT_ONCE + GROUP - 1) / GROUP };
    const @type@ *weights = c->views[@w@];
    f32 *wide = c->local;                        /* [PANELS_AT_ONCE][BLOCK][16], pieces of 16-bit panels as f32 */
    f32 *sums = wide + PANELS_AT_ONCE * PIECE;   /* [GROUP][ROW_PANELS][R][16] */
    u32 rows = @rows@, row_panels_all = blocks_of(rows, R), row_blocks = blocks_of(row_panels_all, ROW_PANELS);
    for (u32 tile = begin; tile < end; tile++) {
        u32 row_panel = tile % row_blocks * ROW_PANELS, row_panels = min_u32(row_panels_all - row_panel, ROW_PANELS);
        u32 panel = tile / row_blocks * GROUP, panels = min_u32(PANELS - panel, GROUP);
        u32 first = row_panel * R, last = min_u32(first + row_panels * R, rows);
        u32 lines = blocks_of(16, blocks_of(row_panels, PANELS_AT_ONCE) * PAIR + PAIR - 1);
        for (u32 k = 0; k < DEPTH; k += BLOCK) {
            u32 depth = min_u32(DEPTH - k, BLOCK), in_panel = k + BLOCK < DEPTH;
            const f32 *a = (const f32 *)c->shared + ((u64)k * row_panels_all + (u64)row_panel * BLOCK) * R;
            /* The activations of the next k, or of the next tile: a share with every tile of registers. */
            u32 row_next = in_panel ? row_panel : (tile + 1) % row_blocks * ROW_PANELS;
            const f32 *a_next = (const f32 *)c->shared + ((u64)(in_panel ? k + BLOCK : 0) * row_panels_all + (u64)row_next * BLOCK) * R;
            struct ask ask_rows = {(const char *)a_next, (const char *)(a_next + row_panels * (BLOCK * R)), ROW_LINES};
            for (u32 p = 0; p < panels; p += PANELS_AT_ONCE) {
                u32 columns = min_u32(panels - p, PANELS_AT_ONCE);
                /* Next in turn: the same k of the next panel, the next k of the first one, the next tile. */
                u32 in_group = p + columns < panels;
                u32 panel_next = in_group ? panel + p + columns : in_panel ? panel : (tile + 1) / row_blocks * GROUP;
                u32 k_next = in_group ? k : in_panel ? k + BLOCK : 0;
                const @type@ *next = weights + ((u64)panel_next * DEPTH + k_next) * 16;
                struct ask ask[PANELS_AT_ONCE];
                for (u32 i = 0; i < PANELS_AT_ONCE; i++, next += DEPTH * 16) {
                    ask[i] = (struct ask){(const char *)next, (const char *)(next + PIECE), lines};
                }
                const @type@ *piece = weights + ((u64)(panel + p) * DEPTH + k) * 16;
                const f32 *b = widened_pieces_@type@(piece, columns, DEPTH * 16, depth, PIECE, wide, ask);
                struct outer o = {
                    .a = a, .a_panel = BLOCK * R, .b = b, .b_panel = @b_panel@,
                    .sums = sums + p * SUMS, .sums_columns = SUMS, .depth = depth, .add = k > 0,
                };
                outer_tile_@r@(last - first, columns, &o, &ask_rows, ask);
            }
        }
        for (u32 row = first; row < last; row++) for (u32 p = 0; p < panels; p++) {
            vf sum = vf_load(sums + p * SUMS + (row - first) * 16);
            @name@_store(c, row, (panel + p) * 16, w_columns_@type@(sum));
        }
    }
}
