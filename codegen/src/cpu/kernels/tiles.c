@store@
@prepare@
/* A tile is a block of rows x a group of column panels, as in products of vectors: tiles of the same columns follow each
 * other, so that the weights come from memory once. Within a tile, k advances by BLOCK; two panels' pieces of so many right
 * tiles stay in the first cache while the left tiles of all rows go by.
 * Sums lie together meanwhile: stored with the stride of the result they cost a tenth of the time. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, PIECES = @pieces@, PAIRS = @pairs@, K_TILES = PAIRS / 16, TAIL = PAIRS % 16 };
    enum { BLOCK = @block@, ROW_PANELS = @row_panels@, ROW_TILES = ROW_PANELS * PIECES, GROUP = @group@ };
    const bf16 *weights = c->views[@w@];
    f32 *sums = c->local;                                          /* [GROUP][ROW_TILES][16][16] */
    bf16 *tails = (bf16 *)(sums + GROUP * ROW_TILES * SUMS);       /* [2][16][16][2] */
    u32 rows = @rows@, row_panels_all = blocks_of(rows, 16), row_blocks = blocks_of(row_panels_all, ROW_PANELS);
    struct tiles tiles;
    tiles_begin(&tiles, 16, 16);
    for (u32 tile = begin; tile < end; tile++) {
        u32 row_panel = tile % row_blocks * ROW_PANELS, panel = tile / row_blocks * GROUP, panels = min_u32(PANELS - panel, GROUP);
        u32 first = row_panel * 16, last = min_u32(first + ROW_PANELS * 16, rows), row_tiles = blocks_of((last - first) * PIECES, 16);
        for (u32 k = 0; k < @k_tiles@; k += BLOCK) {
            u32 depth = min_u32(K_TILES - k, BLOCK), ends = TAIL && K_TILES - k < BLOCK;
            const bf16 *a = (const bf16 *)c->shared + ((u64)k * row_panels_all + (u64)row_panel * BLOCK) * (PIECES * TILE);
            for (u32 p = 0; p < panels; p += 2) {
                u32 columns = min_u32(panels - p, 2);
                const bf16 *b = weights + ((u64)(panel + p) * PAIRS + k * 16) * 32;
                /* Next in turn: the same k of the next two panels, the next k of the first ones, the next tile. */
                u32 in_group = p + columns < panels, in_panel = k + BLOCK < @k_tiles@;
                u32 panel_next = in_group ? panel + p + columns : in_panel ? panel : (tile + 1) / row_blocks * GROUP;
                u32 k_next = in_group ? k : in_panel ? k + BLOCK : 0, lines = blocks_of(32, blocks_of(row_tiles, 2));
                const char *next = (const char *)(weights + ((u64)panel_next * PAIRS + k_next * 16) * 32), *beside = next + PAIRS * 64;
                struct ask ask[2] = {{next, next + BLOCK * 1024, lines}, {beside, beside + BLOCK * 1024, lines}};
                for (u32 i = 0; ends && i < columns; i++) copy_tail(b + (i * PAIRS + depth * 16) * 32, TAIL, tails + i * TILE);
                for (u32 r = 0; r < row_tiles; r += 2) {
                    struct tile_step step = {
                        .a = a + (u64)r * (BLOCK * TILE), .a_on = BLOCK * TILE,
                        .b = b, .b_on = PAIRS * 32, .tails = ends ? tails : 0,
                        .sums = sums + (p * ROW_TILES + r) * SUMS, .sums_on = ROW_TILES * SUMS,
                        .depth = depth, .add = k > 0,
                    };
                    multiply_tiles(&tiles, min_u32(row_tiles - r, 2), columns, step, ask);
                }
            }
        }
        for (u32 row = first; row < last; row++) for (u32 p = 0; p < panels; p++) {
            const f32 *sum = sums + p * (ROW_TILES * SUMS) + (row - first) * (PIECES * 16);
            @name@_store(c, row, (panel + p) * 16, sum_of_pieces(PIECES, sum));
        }
    }
    tiles_end(&tiles);
}
