/* Few rows, straight from the packed panels. Included once per type of weight:
 * TYPE is f32, f16 or bf16; PAIR is how many k lie side by side in a panel (1 or 2). */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define OF_TYPE(name) JOIN(name, TYPE)

/* One row against `panels` <= 4 neighbouring panels: out[p] = a . panel p. `ahead` is the distance of the
 * prefetch in bytes; it helps over the ends of pages, where the processor's own prefetch stops. */
INLINE void OF_TYPE(row_times_panels)(u32 panels, u32 steps, const f32 *a, const TYPE *w, u64 panel, u32 ahead, vf *out)
{
#define START(p) vf x##p = vf_zero(), y##p = vf_zero();
#define STEP(p) if (panels > p) { \
        const TYPE *at = w + p * panel; \
        prefetch((const char *)at + ahead); \
        x##p = vf_fma(a_x, OF_TYPE(w_x)(at), x##p); \
        if (PAIR == 2) y##p = vf_fma(a_y, OF_TYPE(w_y)(at), y##p); \
    }
#define FOLD(p) if (panels > p) out[p] = OF_TYPE(w_sum)(x##p, y##p);
    EACH_OF_4(START)
    for (u32 step = 0; step < steps; step++, a += PAIR, w += 16 * PAIR) {
        vf a_x = OF_TYPE(a_x)(a), a_y = OF_TYPE(a_y)(a);
        EACH_OF_4(STEP)
    }
    EACH_OF_4(FOLD)
#undef START
#undef STEP
#undef FOLD
}

/* Up to four rows (16-bit weights: two, with twice the accumulators) against one piece of a panel:
 * sums[r][X, Y][16] = (add ? sums : 0) + .. ; row r's pair lies at a + r * PAIR, the next step's 8 * PAIR on.
 * Meanwhile the piece after it is asked for, `ask` bytes a step from `next` on. */
INLINE void OF_TYPE(rows_times_piece)(u32 rows, u32 steps, const f32 *a, const TYPE *w, const char *next, u32 ask, f32 *sums, u32 add)
{
#define START(r) \
    vf x##r = rows > r && add ? vf_load(sums + r * 32) : vf_zero(); \
    vf y##r = rows > r && add && PAIR == 2 ? vf_load(sums + r * 32 + 16) : vf_zero();
#define STEP(r) if (rows > r) { \
        x##r = vf_fma(OF_TYPE(a_x)(a + r * PAIR), w_x, x##r); \
        if (PAIR == 2) y##r = vf_fma(OF_TYPE(a_y)(a + r * PAIR), w_y, y##r); \
    }
#define STORE(r) if (rows > r) { vf_store(sums + r * 32, x##r); vf_store(sums + r * 32 + 16, y##r); }
    EACH_OF_4(START)
    for (u32 step = 0; step < steps; step++, a += 8 * PAIR, w += 16 * PAIR, next += ask) {
        prefetch(next);
        vf w_x = OF_TYPE(w_x)(w), w_y = OF_TYPE(w_y)(w);
        EACH_OF_4(STEP)
    }
    EACH_OF_4(STORE)
#undef START
#undef STEP
#undef STORE
}

/* The same for any number of rows up to 8, in even passes; the later ones find the piece in the nearest cache. */
INLINE void OF_TYPE(few_rows_times_piece)(u32 rows, u32 steps, const f32 *a, const TYPE *w, const char *next, f32 *sums, u32 add)
{
    u32 passes = blocks_of(rows, 4 / PAIR), pass = blocks_of(rows, passes), ask = 64 / passes;
    for (u32 first = 0; first < rows; first += pass, next += steps * ask) {
        const f32 *a_first = a + first * PAIR;
        f32 *sums_first = sums + first * 32;
        switch (min_u32(pass, rows - first)) {
        case 1: OF_TYPE(rows_times_piece)(1, steps, a_first, w, next, ask, sums_first, add); break;
        case 2: OF_TYPE(rows_times_piece)(2, steps, a_first, w, next, ask, sums_first, add); break;
#if PAIR == 1
        case 3: OF_TYPE(rows_times_piece)(3, steps, a_first, w, next, ask, sums_first, add); break;
        case 4: OF_TYPE(rows_times_piece)(4, steps, a_first, w, next, ask, sums_first, add); break;
#endif
        }
    }
}
#undef JOIN_
#undef JOIN
#undef OF_TYPE
#undef TYPE
#undef PAIR
