/* The cache, as attention walks it. Pages are taken from the newest to the oldest: ALiBi makes the newest weigh most, so
 * that old ones often add nothing and are not read. */
enum { @name@_HEADS = @heads@, @name@_D = @d@, @name@_DP = @dp@, @name@_T = @t@, @name@_VALUES = @heads@ * @t@ * @dp@ };
enum { @name@_PAGE = 2 * @name@_VALUES + @heads@ * @t@ * @size_elements@ };

INLINE const @type@ *@name@_page(const struct call *c, u32 sequence, u32 first)
{
    const i32 *pages = (const i32 *)c->views[@pages@] + (u64)sequence * @pages_width@;
    return (const @type@ *)c->views[@kv@] + (u64)(u32)pages[first / @name@_T] * @name@_PAGE;
}

INLINE const f32 *@name@_sizes(const @type@ *page, u32 head)
{
    return (const f32 *)(page + 2 * @name@_VALUES) + head * @name@_T;
}

/* One query row (q[D], as it lies) against the first `keys` keys of a head's page, keys k and values v, while those of the
 * next page are asked for. */
INLINE void @name@_row(const f32 *q, f32 slope, const @type@ *k, const @type@ *next, u32 first, u32 keys, vf *largest, vf *sum, f32 *out)
{
    enum { D = @d@, DP = @dp@, GROUPS = DP / 16, T = @t@, VALUES = @name@_VALUES };
    const @type@ *v = k + VALUES;
    f32 weights[64], bias[64];
    vf s0 = vf_zero(), s1 = vf_zero(), s2 = vf_zero(), s3 = vf_zero();
    for (u32 j = 0; j < D; j++, k += 16) {
        vf x = vf_all(q[j]);
        for (u32 line = 0; line < T * sizeof *k; line += 64) prefetch((const char *)(next + j * T) + line);
        s0 = vf_fma(x, vf_load_@type@(k), s0);
        if (T > 16) s1 = vf_fma(x, vf_load_@type@(k + 16 * DP), s1);
        if (T > 32) s2 = vf_fma(x, vf_load_@type@(k + 32 * DP), s2);
        if (T > 48) s3 = vf_fma(x, vf_load_@type@(k + 48 * DP), s3);
    }
    vf_store(weights, s0), vf_store(weights + 16, s1), vf_store(weights + 32, s2), vf_store(weights + 48, s3);
    page_bias(slope, first, bias);
    vf page = vf_all(score_page(weights, @scale@, bias, keys)), now = vf_max(*largest, page), shrink = shrink_by(*largest, now);
    *sum = vf_fma(*sum, shrink, vf_all(weigh_page(weights, vf_first(now), keys)));
    *largest = now;
    for (u32 g = 0; g < GROUPS; g += 4) {
        weigh_values_@type@(GROUPS - g < 4 ? GROUPS - g : 4, weights, keys, v + g * 16, next + VALUES + g * 16, DP, vf_first(shrink),
                            out + g * 16);
    }
}

/* One query row against all its pages, straight from the cache. */
INLINE void @name@_single(const struct call *c, struct block at, u32 head)
{
    enum { D = @d@, DP = @dp@, T = @t@ };
    const f32 *q = (const f32 *)c->views[@q@] + @q_offset@ + (u64)at.row * @q_stride@ + head * D;
    f32 slope = ((const f32 *)c->views[@slopes@])[head], size = size_of_row(q, D) * @scale@;
    vf largest = vf_all(-__builtin_inff()), sum = vf_zero();
    f32 out[DP];
    u32 skipped = 0;
    for (u32 j = 0; j < DP; j += 16) vf_store(out + j, vf_zero());
    for (u32 keys = at.position + 1; keys > 0;) {
        u32 first = (keys - 1) / T * T, here = keys - first;
        const @type@ *page = @name@_page(c, at.sequence, first);
        const @type@ *next = first > 0 ? @name@_page(c, at.sequence, first - T) : page;
        for (u32 i = 0; i < T; i += 16) prefetch(@name@_sizes(next, head) + i);
        if (here < T || !page_adds_nothing(@name@_sizes(page, head), T, size, slope, first, vf_first(largest))) {
            @name@_row(q, slope, page + head * (T * DP), next + head * (T * DP), first, here, &largest, &sum, out);
        } else skipped++;
        keys = first;
    }
    count_pages(c, blocks_of(at.position + 1, T), skipped);
    for (u32 g = 0; g < DP / 16; g++) @name@_store(c, at.row, head, g, vf_div(vf_load(out + g * 16), sum));
}

/* What a block of query rows is working on: panels of six rows, the last row standing in for those past the end. Numbers
 * of rows lie in vectors of 16, of which six are used. */
struct @name@_rows {
    f32 queries[@panels@][@d@ * 6];      /* [D][6] */
    f32 out[@panels@][6][@dp@];
    f32 weights[@panels@][6][64];        /* products, scores, weights of the keys of a page */
    f32 largest[@panels@][16], sum[@panels@][16], shrink[@panels@][16];
    f32 size[@panels@];                  /* bound of the scaled queries */
    f32 bias[64];
};
_Static_assert(sizeof(struct @name@_rows) + 2 * @t@ * @dp@ * sizeof(f32) <= @local@, "scratch for the rows and a page");

INLINE void @name@_start(const struct call *c, struct block at, u32 head, u32 panels, struct @name@_rows *rows)
{
    enum { D = @d@, DP = @dp@ };
    const f32 *q = (const f32 *)c->views[@q@] + @q_offset@ + head * D;
    for (u32 panel = 0; panel < panels; panel++) {
        const f32 *from[6];
        f32 size = 0;
        for (u32 r = 0; r < 6; r++) {
            from[r] = q + (u64)(at.row + min_u32(panel * 6 + r, at.rows - 1)) * @q_stride@;
            f32 of_row = size_of_row(from[r], D) * @scale@;
            size = of_row > size ? of_row : size; /* a row of NaN is NaN from its newest page on */
            for (u32 j = 0; j < DP; j += 16) vf_store(rows->out[panel][r] + j, vf_zero());
        }
        pack_rows(6, from, D, 0, D, rows->queries[panel]);
        rows->size[panel] = size;
        vf_store(rows->largest[panel], vf_all(-__builtin_inff()));
        vf_store(rows->sum[panel], vf_zero());
    }
}

/* Whether none of a panel's rows needs a page: it comes after them, or adds nothing. */
INLINE u32 @name@_idle(struct block at, u32 panel, const struct @name@_rows *rows, const f32 *sizes, f32 slope, u32 first)
{
    enum { T = @t@ };
    if (keys_seen(at, panel * 6 + 5, first, T) == 0) return 1;
    if (keys_seen(at, panel * 6, first, T) < T) return 0;
    f32 least = rows->largest[panel][0];
    for (u32 r = 1; r < 6; r++) least = rows->largest[panel][r] < least ? rows->largest[panel][r] : least;
    return page_adds_nothing(sizes, T, rows->size[panel], slope, first, least);
}

/* Keys k[T/16][DP][16] with a panel's rows: their weights. */
INLINE void @name@_weigh(struct block at, u32 panel, struct @name@_rows *rows, const f32 *k, u32 first)
{
    enum { D = @d@, DP = @dp@, T = @t@ };
    f32 *weights = rows->weights[panel][0], page[16] = {0}, sums[16] = {0};
    u32 groups = blocks_of(keys_seen(at, panel * 6 + 5, first, T), 16);
    struct outer o = {
        .a = rows->queries[panel], .a_row = 1, .a_step = 6, .panel_rows = 6, .b = k, .b_panel = 16 * DP, .b_step = 16,
        .sums = weights, .sums_row = 64, .sums_columns = 16, .depth = D, .add = 0,
    };
    outer_six(groups, o);
    for (u32 r = 0; r < 6; r++) {
        page[r] = score_page(weights + r * 64, @scale@, rows->bias, keys_seen(at, panel * 6 + r, first, T));
    }
    vf before = vf_load(rows->largest[panel]), now = vf_max(before, vf_load(page)), shrink = shrink_by(before, now);
    vf_store(rows->largest[panel], now);
    vf_store(rows->shrink[panel], shrink);
    for (u32 r = 0; r < 6; r++) {
        sums[r] = weigh_page(weights + r * 64, rows->largest[panel][r], keys_seen(at, panel * 6 + r, first, T));
    }
    vf_store(rows->sum[panel], vf_fma(vf_load(rows->sum[panel]), shrink, vf_load(sums)));
}

/* Values v[T][DP] by a panel's weights. On the diagonal a later row sees a few keys more than the first. */
INLINE void @name@_add(struct block at, u32 panel, struct @name@_rows *rows, const f32 *v, u32 first)
{
    enum { DP = @dp@, GROUPS = DP / 16, T = @t@ };
    const f32 *weights = rows->weights[panel][0];
    u32 common = keys_seen(at, panel * 6, first, T);
    for (u32 r = 0; r < 6; r++) {
        f32 *out = rows->out[panel][r];
        vf by = vf_all(rows->shrink[panel][r]);
        for (u32 j = 0; j < DP; j += 16) vf_store(out + j, vf_mul(vf_load(out + j), by));
    }
    struct outer o = {
        .a = weights, .a_row = 64, .a_step = 1, .panel_rows = 6, .b = v, .b_panel = 16, .b_step = DP,
        .sums = rows->out[panel][0], .sums_row = DP, .sums_columns = 16, .depth = common, .add = 1,
    };
    outer_six(GROUPS, o);
    for (u32 r = 1; r < 6; r++) {
        u32 more = keys_seen(at, panel * 6 + r, first, T) - common;
        const f32 *later = v + common * DP;
        if (more) for (u32 g = 0; g < GROUPS; g += 4) {
            weigh_values_f32(GROUPS - g < 4 ? GROUPS - g : 4, weights + r * 64 + common, more, later + g * 16, later + g * 16, DP, 1,
                             rows->out[panel][r] + g * 16);
        }
    }
}

/* Up to @block@ query rows of one sequence against its pages. A page is widened once for all of them. */
INLINE void @name@_block(const struct call *c, struct block at, u32 head)
{
    enum { DP = @dp@, T = @t@, VALUES = @name@_VALUES };
    f32 slope = ((const f32 *)c->views[@slopes@])[head];
    struct @name@_rows *rows = c->local;
    f32 *wide_k = (f32 *)(rows + 1), *wide_v = wide_k + T * DP; /* [T/16][DP][16], [T][DP] */
    u32 panels = blocks_of(at.rows, 6), pages = blocks_of(at.position + at.rows, T), skipped = 0;
    @name@_start(c, at, head, panels, rows);
    for (u32 first = pages * T; first > 0;) {
        first -= T;
        const @type@ *page = @name@_page(c, at.sequence, first), *page_k = page + head * (T * DP), *page_v = page_k + VALUES;
        u32 idle[@panels@], all = 1;
        for (u32 panel = 0; panel < panels; panel++) {
            idle[panel] = @name@_idle(at, panel, rows, @name@_sizes(page, head), slope, first);
            all &= idle[panel];
        }
        if (all) {
            skipped++;
            continue;
        }
        page_bias(slope, first, rows->bias);
        /* Keys with all rows, then values with all rows: each half of the page stays in the first cache. */
        const f32 *k = widened_@type@(page_k, T * DP, wide_k);
        for (u32 panel = 0; panel < panels; panel++) if (!idle[panel]) @name@_weigh(at, panel, rows, k, first);
        const f32 *v = widened_@type@(page_v, T * DP, wide_v);
        for (u32 panel = 0; panel < panels; panel++) if (!idle[panel]) @name@_add(at, panel, rows, v, first);
    }
    count_pages(c, pages, skipped);
    for (u32 r = 0; r < at.rows; r++) for (u32 g = 0; g < DP / 16; g++) {
        vf x = vf_load(rows->out[r / 6][r % 6] + g * 16);
        @name@_store(c, at.row + r, head, g, vf_div(x, vf_all(rows->sum[r / 6][r % 6])));
    }
}

/* Rows of no sequence come out as zeros: the last block before a gap sees to it, and the first block of all. */
INLINE void @name@_gaps(const struct call *c, struct block at, u32 head)
{
    const i32 *rows = c->views[@rows@];
    u32 sequences = @sequences@, first = gap_end(rows, sequences, 0, @count@);
    u32 from = at.row + at.rows, to = at.left > 0 ? from : gap_end(rows, sequences, from, @count@);
    for (u32 row = from; row < to; row++) for (u32 g = 0; g < @dp@ / 16; g++) @name@_store(c, row, head, g, vf_zero());
    if (at.row != first) return;
    for (u32 row = 0; row < first; row++) for (u32 g = 0; g < @dp@ / 16; g++) @name@_store(c, row, head, g, vf_zero());
}

/* A tile is a block of up to @block@ query rows of one sequence x a head. One or two rows go straight through the
 * cache, more are taken six at a time: the same sums in the same order. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    const i32 *rows = c->views[@rows@];
    for (u32 tile = begin; tile < end; tile++) {
        u32 head = tile % @name@_HEADS;
        struct block at = find_block(rows, @sequences@, tile / @name@_HEADS, @block@);
        @name@_gaps(c, at, head);
        if (at.rows > 2) {
            @name@_block(c, at, head);
        } else for (; at.rows > 0; at.rows--, at.row++, at.position++) {
            @name@_single(c, at, head);
        }
    }
}
