/* One row, straight from the packed panels. Included once per type of weight:
 * TYPE is f32, f16 or bf16; PAIR is how many k lie side by side in a panel (1 or 2). */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define OF_TYPE(name) JOIN(name, TYPE)

/* One row against `panels` <= 4 neighbouring panels: out[p] = a . panel p. Each is asked for `ahead` bytes before it is
 * read, since the processor's own prefetch stops at the ends of pages; towards the end, what is asked for are the panels
 * that come after these. */
INLINE void OF_TYPE(row_times_panels)(u32 panels, u32 steps, const f32 *a, const TYPE *w, u64 panel, u64 ahead, vf *out)
{
    u32 near = steps - min_u32(steps, (u32)(ahead / (16 * PAIR * sizeof *w)));
#define START(p) vf sum##p = vf_zero();
#define STEP(p) if (panels > p) { \
        const TYPE *at = w + p * panel; \
        vf even, odd; \
        prefetch((const char *)at + ahead); \
        OF_TYPE(w_widen)(at, &even, &odd); \
        sum##p = vf_fma(a_even, even, sum##p); \
        if (PAIR == 2) sum##p = vf_fma(a_odd, odd, sum##p); \
    }
#define STORE(p) if (panels > p) out[p] = OF_TYPE(w_columns)(sum##p);
    EACH_OF_4(START)
    for (u32 step = 0, end = near; step < steps; end = steps, ahead += (panels - 1) * panel * sizeof *w) {
        for (; step < end; step++, a += PAIR, w += 16 * PAIR) {
            vf a_even = vf_all(a[0]), a_odd = vf_all(a[PAIR - 1]);
            EACH_OF_4(STEP)
        }
    }
    EACH_OF_4(STORE)
#undef START
#undef STEP
#undef STORE
}
#undef JOIN_
#undef JOIN
#undef OF_TYPE
#undef TYPE
#undef PAIR
