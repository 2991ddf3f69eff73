/* What attention and the cache's writer share: the table of sequences, and softmax taken a page at a time. */

/* rows[S][3] = first row, number of rows, position of the first row. */
struct block { u32 sequence, row, rows, position, left; }; /* left: rows of the sequence after the block */
struct place { u32 found, sequence, position; };

/* The index-th block of up to `size` rows, counted through all sequences. */
INLINE struct block find_block(const i32 *rows, u32 sequences, u32 index, u32 size)
{
    for (u32 s = 0; s < sequences; s++, rows += 3) {
        u32 length = (u32)rows[1], blocks = blocks_of(length, size), first = index * size;
        if (index < blocks) {
            u32 count = min_u32(length - first, size);
            return (struct block){s, (u32)rows[0] + first, count, (u32)rows[2] + first, length - first - count};
        }
        index -= blocks;
    }
    return (struct block){0, 0, 0, 0, 0};
}

INLINE struct place find_row(const i32 *rows, u32 sequences, u32 row)
{
    for (u32 s = 0; s < sequences; s++, rows += 3) {
        u32 within = row - (u32)rows[0];
        if (within < (u32)rows[1]) return (struct place){1, s, (u32)rows[2] + within};
    }
    return (struct place){0, 0, 0};
}

/* The rows from `row` on that belong to no sequence: where the next sequence starts, or the batch ends. */
INLINE u32 gap_end(const i32 *rows, u32 sequences, u32 row, u32 rows_all)
{
    u32 end = rows_all;
    for (u32 s = 0; s < sequences; s++, rows += 3) {
        if (rows[1] > 0 && (u32)rows[0] >= row) end = min_u32(end, (u32)rows[0]);
    }
    return end;
}

/* How many keys of the page that begins at position `first` row `row` of the block sees: those up to its own. A row
 * past the block's end repeats the last one. */
INLINE u32 keys_seen(struct block at, u32 row, u32 first, u32 page_tokens)
{
    u32 end = at.position + min_u32(row, at.rows - 1) + 1;
    return end <= first ? 0 : min_u32(end - first, page_tokens);
}

/* An upper bound of |x|, x[width]: rounding here, and of x to 16 bits, changes less than the last factor. */
INLINE f32 size_of_row(const f32 *x, u32 width)
{
    vf squares = vf_zero();
    for (u32 i = 0; i < width; i += 16) {
        vf some = load_some(x + i, width - i);
        squares = vf_fma(some, some, squares);
    }
    return 1.001f * vf_first(vf_sqrt(vf_all(vf_sum(squares))));
}

/* Whether a full page can be left out: no score of its keys, |q| |k| + slope * position at most, comes within 88 of the
 * largest so far, and below -87.4 vf_exp gives 0: it would add zeros. `sizes` are bounds of its keys' sizes, `size` of
 * the scaled query's. */
INLINE u32 page_adds_nothing(const f32 *sizes, u32 page_tokens, f32 size, f32 slope, u32 first, f32 largest)
{
    vf most = vf_all(-__builtin_inff());
    for (u32 i = 0; i < page_tokens; i += 16) {
        vf bias = vf_mul(vf_all(slope), vf_count((f32)(i32)(first + i)));
        most = vf_max(most, vf_fma(vf_load(sizes + i), vf_all(size), bias));
    }
    return vf_largest(most) - largest < -88.0f;
}

INLINE void count_pages(const struct call *c, u32 seen, u32 skipped) { c->pages->seen += seen, c->pages->skipped += skipped; }

/* slope * position of the keys of a page, whose first one has position `first`. */
INLINE void page_bias(f32 slope, u32 first, f32 *bias)
{
    for (u32 i = 0; i < 64; i += 16) vf_store(bias + i, vf_mul(vf_all(slope), vf_count((f32)(i32)(first + i))));
}

/* The first n of 64 lanes. */
INLINE u32 lanes_left(u32 n, u32 from) { return n > from ? n - from : 0; }

/* Products q . k of a page become scores, product * scale + bias, minus infinity past the first `keys` of 64. The largest. */
INLINE f32 score_page(f32 *row, f32 scale, const f32 *bias, u32 keys)
{
    vf by = vf_all(scale), none = vf_all(-__builtin_inff());
    vf s0 = vf_fma(vf_load(row), by, vf_load(bias)), s1 = vf_fma(vf_load(row + 16), by, vf_load(bias + 16));
    vf s2 = vf_fma(vf_load(row + 32), by, vf_load(bias + 32)), s3 = vf_fma(vf_load(row + 48), by, vf_load(bias + 48));
    if (keys < 64) {
        s0 = vf_keep(s0, keys, none), s1 = vf_keep(s1, lanes_left(keys, 16), none);
        s2 = vf_keep(s2, lanes_left(keys, 32), none), s3 = vf_keep(s3, lanes_left(keys, 48), none);
    }
    vf_store(row, s0), vf_store(row + 16, s1), vf_store(row + 32, s2), vf_store(row + 48, s3);
    return vf_largest(vf_max(vf_max(s0, s1), vf_max(s2, s3)));
}

/* Scores become weights e^(score - largest); keys that are not there weigh 0. Their sum. */
INLINE f32 weigh_page(f32 *row, f32 largest, u32 keys)
{
    vf m = vf_all(largest), zero = vf_zero();
    vf w0 = vf_exp_of_negative(vf_sub(vf_load(row), m)), w1 = vf_exp_of_negative(vf_sub(vf_load(row + 16), m));
    vf w2 = vf_exp_of_negative(vf_sub(vf_load(row + 32), m)), w3 = vf_exp_of_negative(vf_sub(vf_load(row + 48), m));
    if (keys < 64) { /* before a row's first key, minus infinity - minus infinity is NaN */
        w0 = vf_keep(w0, keys, zero), w1 = vf_keep(w1, lanes_left(keys, 16), zero);
        w2 = vf_keep(w2, lanes_left(keys, 32), zero), w3 = vf_keep(w3, lanes_left(keys, 48), zero);
    }
    vf_store(row, w0), vf_store(row + 16, w1), vf_store(row + 32, w2), vf_store(row + 48, w3);
    return vf_sum(vf_add(vf_add(w0, w1), vf_add(w2, w3)));
}

/* e^(old largest - new largest), by which what was summed before shrinks; 1 where the largest stays. */
INLINE vf shrink_by(vf before, vf now) { return vf_if_less(before, now, vf_exp_of_negative(vf_sub(before, now)), vf_all(1)); }

/* Six rows times `groups` panels of columns. */
INLINE void outer_six(u32 groups, struct outer o)
{
    for (; groups >= PANELS_AT_ONCE; groups -= PANELS_AT_ONCE) {
        outer(6, PANELS_AT_ONCE, o, 0);
        o.b += PANELS_AT_ONCE * o.b_panel, o.sums += PANELS_AT_ONCE * o.sums_columns;
    }
    if (groups > 0) outer(6, 1, o, 0);
}

INLINE const f32 *widened_f32(const f32 *from, u32 count, f32 *to) { (void)count; (void)to; return from; }
INLINE const f32 *widened_f16(const f16 *from, u32 count, f32 *to)
{
    for (u32 i = 0; i < count; i += 16) vf_store(to + i, vf_load_f16(from + i));
    return to;
}

/* out[groups * 16] = out * shrink + sum over t < keys of p[t] * v[t], a row of values being v_row on; meanwhile the
 * values of the next page are asked for. */
#define WEIGH_VALUES(type) \
INLINE void weigh_values_##type(u32 groups, const f32 *p, u32 keys, const type *v, const type *next, u32 v_row, f32 shrink, f32 *out) \
{ \
    EACH_OF_4(START) \
    for (u32 t = 0; t < keys; t++, v += v_row, next += v_row) { \
        for (u32 g = 0; g < groups * (u32)sizeof *v / 4; g++) prefetch((const char *)next + g * 64); \
        vf weight = vf_all(p[t]); \
        EACH_OF_4(STEP_##type) \
    } \
    EACH_OF_4(STORE) \
}
#define START(g) vf sum##g = groups > g ? vf_mul(vf_load(out + g * 16), vf_all(shrink)) : vf_zero();
#define STEP_f32(g) if (groups > g) sum##g = vf_fma(weight, vf_load_f32(v + g * 16), sum##g);
#define STEP_f16(g) if (groups > g) sum##g = vf_fma(weight, vf_load_f16(v + g * 16), sum##g);
#define STORE(g) if (groups > g) vf_store(out + g * 16, sum##g);
WEIGH_VALUES(f32)
WEIGH_VALUES(f16)
#undef WEIGH_VALUES
#undef START
#undef STEP_f32
#undef STEP_f16
#undef STORE
