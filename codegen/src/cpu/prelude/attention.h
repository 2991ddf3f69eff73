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

/* The largest score so far, and the sum of e^(score - largest). */
struct softmax { f32 largest, sum; };

INLINE struct softmax softmax_start(void) { return (struct softmax){-__builtin_inff(), 0}; }

/* Takes in the first `keys` of a page's products (64 at most) q . k, whose first key has position `first`:
 * score = product * scale + slope * position, weights[t] = e^(score - largest), 0 for the keys not taken.
 * Returns e^(old largest - new largest), by which what was summed before shrinks. A page without keys changes
 * nothing: it shrinks by exactly 1 and adds zeros. */
INLINE f32 softmax_page(vf s0, vf s1, vf s2, vf s3, f32 scale, f32 slope, u32 first, u32 keys, struct softmax *state, f32 *weights)
{
    vf by = vf_all(scale), bias = vf_all(slope), none = vf_all(-__builtin_inff()), zero = vf_zero();
    if (keys == 0) {
        for (u32 i = 0; i < 64; i += 16) vf_store(weights + i, zero);
        return 1;
    }
    u32 n1 = keys > 16 ? keys - 16 : 0, n2 = keys > 32 ? keys - 32 : 0, n3 = keys > 48 ? keys - 48 : 0;
    f32 at = (f32)(i32)first;
    s0 = vf_fma(s0, by, vf_mul(bias, vf_count(at)));
    s1 = vf_fma(s1, by, vf_mul(bias, vf_count(at + 16)));
    s2 = vf_fma(s2, by, vf_mul(bias, vf_count(at + 32)));
    s3 = vf_fma(s3, by, vf_mul(bias, vf_count(at + 48)));
    if (keys < 64) s0 = vf_keep(s0, keys, none), s1 = vf_keep(s1, n1, none), s2 = vf_keep(s2, n2, none), s3 = vf_keep(s3, n3, none);
    f32 page = vf_largest(vf_max(vf_max(s0, s1), vf_max(s2, s3)));
    f32 largest = page > state->largest ? page : state->largest;
    vf m = vf_all(largest);
    s0 = vf_exp(vf_sub(s0, m));
    s1 = vf_exp(vf_sub(s1, m));
    s2 = vf_exp(vf_sub(s2, m));
    s3 = vf_exp(vf_sub(s3, m));
    if (keys < 64) s0 = vf_keep(s0, keys, zero), s1 = vf_keep(s1, n1, zero), s2 = vf_keep(s2, n2, zero), s3 = vf_keep(s3, n3, zero);
    vf_store(weights, s0);
    vf_store(weights + 16, s1);
    vf_store(weights + 32, s2);
    vf_store(weights + 48, s3);
    f32 shrink = exp_f32(state->largest - largest), sum = vf_sum(vf_add(vf_add(s0, s1), vf_add(s2, s3)));
    state->sum = fma_f32(state->sum, shrink, sum);
    state->largest = largest;
    return shrink;
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
