/* Activations as left tiles, [blocks of k][panels of @r@ rows][@row_tiles@ row tiles][BLOCK][16][32], @pieces_story@.
 * Rows past the end are zeros. */
void @name@_prepare(const struct call *c, u32 begin, u32 end)
{
    enum { K = @k@, PIECES = @pieces@, K_TILES = @k_tiles@, BLOCK = @block@, R = @r@, PANEL = @row_tiles@ * BLOCK * TILE };
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    u32 rows = @rows@;
    u64 block_on = (u64)blocks_of(rows, R) * PANEL;
    for (u32 panel = begin; panel < end; panel++) for (u32 r = 0; r < R; r++) {
        u32 row = panel * R + r, width = row < rows ? K : 0;
        const f32 *from = x + (u64)min_u32(row, rows - 1) * @x_stride@;
@norm@
        pack_pieces(PIECES, from, width, r, K_TILES, BLOCK, block_on, (bf16 *)c->shared + (u64)panel * PANEL);
    }
}
