/* A tile is @tile@ rows. A page holds keys in columns, [heads][T/16][DP][16], values in rows, [heads][T][DP], and a bound
 * of each key's size, f32[heads][T]. Head by head, since neighbouring rows share the lines of their columns. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { HEADS = @heads@, D = @d@, DP = @dp@, T = @t@, VALUES = HEADS * T * DP, PAGE = 2 * VALUES + HEADS * T * @size_elements@ };
    @type@ *kv = c->views[@kv@];
    const f32 *keys = (const f32 *)c->views[@k@] + @k_offset@, *values = (const f32 *)c->views[@v@] + @v_offset@;
    const i32 *rows = c->views[@rows@], *pages = c->views[@pages@];
    for (u32 tile = begin; tile < end; tile++) {
        u32 first = tile * @tile@, last = min_u32(first + @tile@, @count@);
        struct place places[@tile@];
        for (u32 row = first; row < last; row++) places[row - first] = find_row(rows, @sequences@, row);
        for (u32 head = 0; head < HEADS; head++) for (u32 row = first; row < last; row++) {
            struct place at = places[row - first];
            if (!at.found) continue; /* a row of no sequence pads the batch */
            u32 slot = at.position % T;
            @type@ *page = kv + (u64)(u32)pages[(u64)at.sequence * @pages_width@ + at.position / T] * PAGE;
            @type@ *k = page + head * (T * DP) + slot / 16 * (16 * DP) + slot % 16, *v = page + VALUES + (head * T + slot) * DP;
            const f32 *key = keys + (u64)row * @k_stride@ + head * D, *value = values + (u64)row * @v_stride@ + head * D;
            for (u32 j = 0; j < D; j += 16) {
                @type@ some[16];
                vf_store_@type@(some, load_some(key + j, D - j));
                for (u32 i = 0; i < 16 && j + i < D; i++) k[(j + i) * 16] = some[i];
                store_some_@type@(v + j, load_some(value + j, D - j), D - j);
            }
            /* The next head's share of the same lines. */
            for (u32 i = 0; i < DP; i += 16) {
                prefetch(key + D + i), prefetch(value + D + i);
                prefetch(v + T * DP + i), prefetch(k - slot % 16 + T * DP + slot % 16 * DP + i);
            }
            ((f32 *)(page + 2 * VALUES))[head * T + slot] = size_of_row(key, D);
        }
    }
}
