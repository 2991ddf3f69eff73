@store@
@prepare@
/* A tile is up to @r@ row(s) x GROUP column panels. The weights are what takes time: they stream past one left tile four
 * panels at a time, past two left tiles two at a time, and all sums stay in their tiles to the end. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, PIECES = @pieces@, PAIRS = @pairs@, K_TILES = PAIRS / 16, TAIL = PAIRS % 16 };
    enum { R = @r@, ROW_TILES = @row_tiles@, LEFT = @k_tiles@ * TILE, GROUP = @group@, AHEAD = @ahead@ };
    const bf16 *weights = c->views[@w@];
    f32 *sums = c->local;                            /* [4][16][16] */
    bf16 *tails = (bf16 *)(sums + 4 * SUMS);         /* [4][16][16][2] */
    u32 rows = @rows@, row_blocks = blocks_of(rows, R);
    struct tiles tiles;
    struct ask none[2] = {{0, 0, 0}, {0, 0, 0}};
    for (u32 tile = begin; tile < end; tile++) {
        u32 block = tile % row_blocks, first = block * R, here = min_u32(rows - first, R), pieces = here * PIECES;
        u32 row_tiles = blocks_of(pieces, 16), at_once = row_tiles == 1 ? 4 : 2;
        u32 panel = tile / row_blocks * GROUP, panels_end = min_u32(panel + GROUP, PANELS);
        tiles_begin(&tiles, min_u32(pieces, 16), row_tiles == 1 ? 0 : pieces - 16);
        for (; panel < panels_end; panel += at_once) {
            u32 panels = min_u32(panels_end - panel, at_once);
            const bf16 *b = weights + (u64)panel * (PAIRS * 32);
            for (u32 p = 0; TAIL && p < panels; p++) copy_tail(b + (p * PAIRS + K_TILES * 16) * 32, TAIL, tails + p * TILE);
            struct tile_step step = {
                .a = (const bf16 *)c->shared + (u64)block * (ROW_TILES * LEFT), .a_on = LEFT,
                .b = b, .b_on = PAIRS * 32, .b_ahead = AHEAD, .tails = TAIL ? tails : 0,
                .sums = sums, .sums_on = row_tiles * SUMS,
                .depth = K_TILES,
            };
            multiply_tiles(&tiles, row_tiles, panels, step, none);
            for (u32 r = 0; r < here; r++) for (u32 p = 0; p < panels; p++) {
                vf sum = sum_of_pieces(PIECES, sums + p * row_tiles * SUMS + r * (PIECES * 16));
                @name@_store(c, first + r, (panel + p) * 16, sum);
            }
        }
    }
    tiles_end(&tiles);
}
