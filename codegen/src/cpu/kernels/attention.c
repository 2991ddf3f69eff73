/* One query row (q[D], as it lies) against the first `keys` keys of a page, whose keys and values are k, while the
 * next page's are asked for. */
INLINE void @name@_row(const f32 *q, f32 slope, const @type@ *k, const @type@ *next, u32 first, u32 keys, struct softmax *state, f32 *out)
{
    enum { HEADS = @heads@, D = @d@, DP = @dp@, GROUPS = DP / 16, T = @t@, VALUES = HEADS * T * DP };
    const @type@ *v = k + VALUES;
    f32 p[64];
    vf s0 = vf_zero(), s1 = vf_zero(), s2 = vf_zero(), s3 = vf_zero();
    for (u32 j = 0; j < D; j++, k += 16) {
        vf x = vf_all(q[j]);
        for (u32 line = 0; line < T * sizeof *k; line += 64) prefetch((const char *)(next + j * T) + line);
        s0 = vf_fma(x, vf_load_@type@(k), s0);
        if (T > 16) s1 = vf_fma(x, vf_load_@type@(k + 16 * DP), s1);
        if (T > 32) s2 = vf_fma(x, vf_load_@type@(k + 32 * DP), s2);
        if (T > 48) s3 = vf_fma(x, vf_load_@type@(k + 48 * DP), s3);
    }
    f32 shrink = softmax_page(s0, s1, s2, s3, @scale@, slope, first, keys, state, p);
    for (u32 g = 0; g < GROUPS; g += 4) {
        weigh_values_@type@(GROUPS - g < 4 ? GROUPS - g : 4, p, keys, v + g * 16, next + VALUES + g * 16, DP, shrink, out + g * 16);
    }
}

/* Up to @block@ query rows of one sequence, six at a time, against its pages. A page is widened once for all of
 * them. Row r of panel i keeps its sum at out[i][DP/16][r][16]. */
INLINE void @name@_block(const struct call *c, struct block at, u32 head)
{
    enum { HEADS = @heads@, D = @d@, DP = @dp@, GROUPS = DP / 16, PANELS = @block@ / 6, T = @t@, PAGE = 2 * HEADS * T * DP };
    const f32 *q = (const f32 *)c->views[@q@] + @q_offset@ + head * D;
    const @type@ *kv = c->views[@kv@];
    f32 slope = ((const f32 *)c->views[@slopes@])[head];
    const i32 *pages = (const i32 *)c->views[@pages@] + (u64)at.sequence * @pages_width@;
    f32 *queries = c->local;                       /* [PANELS][D][6] */
    f32 *out = queries + PANELS * D * 6;           /* [PANELS][GROUPS][6][16] */
    f32 *wide_k = out + PANELS * GROUPS * 96;      /* [T/16][DP][16] */
    f32 *wide_v = wide_k + T * DP;                 /* [T][DP] */
    f32 *scores = wide_v + T * DP;                 /* [T/16][6][16] */
    f32 *weights = scores + 4 * 96;                /* [PANELS * 6][64] */
    struct softmax states[PANELS * 6];
    f32 shrink[PANELS * 6];
    u32 panels = blocks_of(at.rows, 6);
    for (u32 panel = 0; panel < panels; panel++) {
        const f32 *from[6];
        for (u32 r = 0; r < 6; r++) {
            from[r] = q + (u64)(at.row + min_u32(panel * 6 + r, at.rows - 1)) * @q_stride@;
            states[panel * 6 + r] = softmax_start();
        }
        pack_rows(6, from, D, 1, 0, 0, D, queries + panel * (D * 6));
    }
    for (u32 i = 0; i < panels * GROUPS * 96; i += 16) vf_store(out + i, vf_zero());

    u32 keys_all = at.position + at.rows; /* of the last row */
    for (u32 first = 0; first < keys_all; first += T) {
        const @type@ *page_k = kv + (u64)(u32)pages[first / T] * PAGE + head * (T * DP);
        const @type@ *page_v = page_k + HEADS * T * DP;
        const f32 *k = @widen_k@;
        const f32 *v = @widen_v@;
        /* Keys with all rows, then values with all rows: each half of the page stays in the first cache. */
        for (u32 panel = 0; panel < panels; panel++) {
            for (u32 g = 0; g < T / 16; g++) {
                outer(6, D, queries + panel * (D * 6), 1, 6, k + g * (16 * DP), 16, scores + g * 96, 0);
            }
            for (u32 row = panel * 6; row < panel * 6 + 6; row++) {
                const f32 *s = scores + row % 6 * 16;
                u32 keys = keys_seen(at, row, first, T);
                shrink[row] = softmax_page(vf_load(s), vf_load(s + 96), vf_load(s + 192), vf_load(s + 288),
                                           @scale@, slope, first, keys, &states[row], weights + row * 64);
            }
        }
        for (u32 panel = 0; panel < panels; panel++) {
            const f32 *weight = weights + panel * (6 * 64);
            u32 common = keys_seen(at, panel * 6, first, T);
            for (u32 g = 0; g < GROUPS; g++) {
                f32 *sum = out + (panel * GROUPS + g) * 96;
                for (u32 r = 0; r < 6; r++) vf_store(sum + r * 16, vf_mul(vf_load(sum + r * 16), vf_all(shrink[panel * 6 + r])));
                outer(6, common, weight, 64, 1, v + g * 16, DP, sum, 1);
                for (u32 r = 1; r < 6; r++) { /* on the diagonal a later row sees a few keys more */
                    u32 more = keys_seen(at, panel * 6 + r, first, T) - common;
                    if (more) outer(1, more, weight + r * 64 + common, 64, 1, v + common * DP + g * 16, DP, sum + r * 16, 1);
                }
            }
        }
    }
    for (u32 r = 0; r < at.rows; r++) for (u32 g = 0; g < GROUPS; g++) {
        vf x = vf_div(vf_load(out + (r / 6 * GROUPS + g) * 96 + r % 6 * 16), vf_all(states[r].sum));
        @name@_store(c, at.row + r, head, g, x);
    }
}

/* One query row against all its pages, straight from the cache. */
INLINE void @name@_single(const struct call *c, struct block at, u32 head)
{
    enum { HEADS = @heads@, D = @d@, DP = @dp@, GROUPS = DP / 16, T = @t@, PAGE = 2 * HEADS * T * DP };
    const f32 *q = (const f32 *)c->views[@q@] + @q_offset@ + (u64)at.row * @q_stride@ + head * D;
    const @type@ *kv = c->views[@kv@];
    f32 slope = ((const f32 *)c->views[@slopes@])[head];
    const i32 *pages = (const i32 *)c->views[@pages@] + (u64)at.sequence * @pages_width@;
    struct softmax state = softmax_start();
    f32 out[DP];
    for (u32 g = 0; g < GROUPS; g++) vf_store(out + g * 16, vf_zero());
    u32 keys = at.position + 1;
    for (u32 first = 0; first < keys; first += T) {
        const @type@ *k = kv + (u64)(u32)pages[first / T] * PAGE + head * (T * DP);
        const @type@ *next = first + T < keys ? kv + (u64)(u32)pages[first / T + 1] * PAGE + head * (T * DP) : k;
        @name@_row(q, slope, k, next, first, min_u32(keys - first, T), &state, out);
    }
    for (u32 g = 0; g < GROUPS; g++) {
        @name@_store(c, at.row, head, g, vf_div(vf_load(out + g * 16), vf_all(state.sum)));
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
    enum { HEADS = @heads@ };
    const i32 *rows = c->views[@rows@];
    for (u32 tile = begin; tile < end; tile++) {
        struct block at = find_block(rows, @sequences@, tile / HEADS, @block@);
        @name@_gaps(c, at, tile % HEADS);
        if (at.rows > 2) {
            @name@_block(c, at, tile % HEADS);
        } else for (; at.rows > 0; at.rows--, at.row++, at.position++) {
            @name@_single(c, at, tile % HEADS);
        }
    }
}
