@store@
/* Activations into panels of 6 rows, [rows/6][@chains@ chains][DEPTH][6]; rows and k past the end are zeros. */
void @name@_prepare(const struct call *c, u32 begin, u32 end)
{
    enum { K = @k@, CHAINS = @chains@, DEPTH = @depth@ };
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    u32 rows = @rows@;
    for (u32 panel = begin; panel < end; panel++) {
        f32 *to = (f32 *)c->shared + (u64)panel * (CHAINS * DEPTH * 6);
        for (u32 r = 0; r < 6; r++) {
            u32 row = panel * 6 + r;
            const f32 *from = row < rows ? x + (u64)row * @x_stride@ : 0;
@norm@
            pack_row(from, K, CHAINS, DEPTH, 6, to + r);
        }
    }
}

/* A tile is a block of rows x a group of column panels. Tiles of the same columns follow each other, so that the
 * weights come from memory once. Within a tile, k advances by BLOCK, so that a block of activations stays in the
 * second cache and a piece of a panel in the first. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, CHAINS = @chains@, DEPTH = @depth@ };
    enum { BLOCK = @block@, ROW_PANELS = @row_panels@, GROUP = @group@ };
    const @type@ *weights = c->views[@w@];
    const f32 *packed = c->shared;
    f32 *wide = c->local;            /* [BLOCK][16], a piece of a 16-bit panel as f32 */
    f32 *sums = wide + BLOCK * 16;   /* [GROUP][CHAINS][ROW_PANELS][6][16] */
    u32 rows = @rows@, row_blocks = blocks_of(rows, ROW_PANELS * 6);
    for (u32 tile = begin; tile < end; tile++) {
        u32 row_panel = tile % row_blocks * ROW_PANELS, row_panels = min_u32(blocks_of(rows, 6) - row_panel, ROW_PANELS);
        u32 panel = tile / row_blocks * GROUP, panels = min_u32(PANELS - panel, GROUP);
        u32 panel_next = (tile + 1) / row_blocks * GROUP;
        for (u32 k = 0; k < DEPTH; k += BLOCK) {
            u32 depth = min_u32(DEPTH - k, BLOCK), ask = 64 / (row_panels * CHAINS);
            const f32 *a = packed + ((u64)row_panel * CHAINS * DEPTH + k) * 6;
            for (u32 chain = 0; chain < CHAINS; chain++) for (u32 p = 0; p < panels; p++) {
                const @type@ *piece = weights + ((u64)(panel + p) * DEPTH + k) * (16 * CHAINS);
                const f32 *b = @widen@;
                /* The piece after this one is asked for while this one is used. */
                u32 last = p + 1 == panels, after = !last ? panel + p + 1 : k + BLOCK < DEPTH ? panel : panel_next;
                u32 k_after = !last ? k : k + BLOCK < DEPTH ? k + BLOCK : 0;
                const char *next = (const char *)(weights + ((u64)after * DEPTH + k_after) * (16 * CHAINS)) + chain * (ask * depth * row_panels);
                f32 *sum = sums + (p * CHAINS + chain) * (ROW_PANELS * 96);
                for (u32 r = 0; r < row_panels; r++) {
                    outer_asking(6, depth, a + (u64)(r * CHAINS + chain) * (DEPTH * 6), 1, 6, b, 16, sum + r * 96, k > 0,
                                 next + r * (ask * depth), ask);
                }
            }
        }
        for (u32 p = 0; p < panels; p++) {
            const f32 *sum = sums + p * CHAINS * (ROW_PANELS * 96);
            u32 first = row_panel * 6, last = min_u32(first + row_panels * 6, rows);
            for (u32 row = first; row < last; row++, sum += 16) {
                @name@_store(c, row, (panel + p) * 16, @fold@);
            }
        }
    }
}
