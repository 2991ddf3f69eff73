@store@
/* Activations as [K/@pair@][8 rows][@pair@], a k past the end being zero. */
void @name@_prepare(const struct call *c, u32 begin, u32 end)
{
    enum { K = @k@, PAIR = @pair@, STEPS = @steps@ };
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    for (u32 row = begin; row < end; row++) {
        const f32 *from = x + (u64)row * @x_stride@;
@norm@
        pack_pairs(from, K, PAIR, STEPS, 8, (f32 *)c->shared + row * PAIR);
    }
}

/* 2 to 8 rows. A tile is GROUP column panels; a piece of a panel serves all rows before the next is read. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, GROUP = @group@, PAIR = @pair@, STEPS = @steps@, PIECE = @piece@ };
    const @type@ *weights = c->views[@w@];
    const f32 *packed = c->shared;
    u32 rows = @rows@;
    f32 sums[8][2][16];
    for (u32 panel = begin * GROUP; panel < min_u32(end * GROUP, PANELS); panel++) {
        const @type@ *w = weights + (u64)panel * (STEPS * PAIR * 16);
        for (u32 s = 0; s < STEPS; s += PIECE) {
            const @type@ *piece = w + (u64)s * (PAIR * 16);
            few_rows_times_piece_@type@(rows, min_u32(STEPS - s, PIECE), packed + s * (8 * PAIR), piece,
                                        (const char *)(piece + PIECE * PAIR * 16), sums[0][0], s > 0);
        }
        for (u32 row = 0; row < rows; row++) {
            @name@_store(c, row, panel * 16, w_sum_@type@(vf_load(sums[row][0]), vf_load(sums[row][1])));
        }
    }
}
