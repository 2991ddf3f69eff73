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

/* 2 to 8 rows. A tile is GROUP column panels, AT_ONCE of them taken in turn, a piece of each: memory is read as
 * several streams, and a piece serves all rows before the next is read. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, GROUP = @group@, AT_ONCE = @at_once@, PAIR = @pair@, STEPS = @steps@, PIECE = @piece@ };
    const @type@ *weights = c->views[@w@];
    const f32 *packed = c->shared;
    u32 rows = @rows@, last = min_u32(end * GROUP, PANELS);
    f32 sums[AT_ONCE][8][2][16];
    for (u32 panel = begin * GROUP; panel < last; panel += AT_ONCE) {
        const @type@ *w = weights + (u64)panel * (STEPS * PAIR * 16);
        u32 panels = min_u32(last - panel, AT_ONCE);
        for (u32 s = 0; s < STEPS; s += PIECE) for (u32 p = 0; p < panels; p++) {
            const @type@ *piece = w + ((u64)p * STEPS + s) * (PAIR * 16);
            const @type@ *next = p + 1 < panels ? piece + STEPS * PAIR * 16 : w + (u64)(s + PIECE) * (PAIR * 16);
            few_rows_times_piece_@type@(rows, min_u32(STEPS - s, PIECE), packed + s * (8 * PAIR), piece,
                                        (const char *)next, sums[p][0][0], s > 0);
        }
        for (u32 p = 0; p < panels; p++) for (u32 row = 0; row < rows; row++) {
            @name@_store(c, row, (panel + p) * 16, w_sum_@type@(vf_load(sums[p][row][0]), vf_load(sums[p][row][1])));
        }
    }
}
