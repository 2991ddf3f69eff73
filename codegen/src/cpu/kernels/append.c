/* A tile is @tile@ rows. Keys go into columns of [T/16][DP][16], values into rows of [T][DP]. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { HEADS = @heads@, D = @d@, DP = @dp@, T = @t@, PAGE = 2 * HEADS * T * DP };
    @type@ *kv = c->views[@kv@];
    const f32 *keys = (const f32 *)c->views[@k@] + @k_offset@, *values = (const f32 *)c->views[@v@] + @v_offset@;
    const i32 *rows = c->views[@rows@], *pages = c->views[@pages@];
    u32 last = min_u32(end * @tile@, @count@);
    for (u32 row = begin * @tile@; row < last; row++) {
        struct place at = find_row(rows, @sequences@, row);
        if (!at.found) continue; /* a row of no sequence pads the batch */
        u32 page = (u32)pages[(u64)at.sequence * @pages_width@ + at.position / T], slot = at.position % T;
        for (u32 head = 0; head < HEADS; head++) {
            @type@ *k = kv + (u64)page * PAGE + head * (T * DP), *v = k + HEADS * T * DP + slot * DP;
            const f32 *key = keys + (u64)row * @k_stride@ + head * D, *value = values + (u64)row * @v_stride@ + head * D;
            k += slot / 16 * (16 * DP) + slot % 16;
            for (u32 j = 0; j < D; j++) {
                k[j * 16] = @narrow@(key[j]);
                v[j] = @narrow@(value[j]);
            }
        }
    }
}
