enum { MEMORY = 1 << 30, READ = 128 << 20 };
static char *memory;

/* Time of this thread alone: what others take of the core does not count, what they take of the memory does. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* GFLOP/s of 12 independent chains in registers. */
static double fma_peak(void)
{
    double best = 0;
    for (int repeat = 0; repeat < 3; repeat++) {
        __m256 sums[12], x = _mm256_set1_ps(0.999f);
        for (int i = 0; i < 12; i++) sums[i] = _mm256_set1_ps((float)i);
        double start = now();
        for (int n = 0; n < 1000000; n++) {
#pragma GCC unroll 12
            for (int i = 0; i < 12; i++) sums[i] = _mm256_fmadd_ps(sums[i], x, x);
            __asm__ volatile("" : "+x"(x));
        }
        double rate = 12e6 * 16 / (now() - start) * 1e-9;
        for (int i = 0; i < 12; i++) __asm__ volatile("" : : "x"(sums[i]));
        if (rate > best) best = rate;
    }
    return best;
}

/* One pass over memory that no cache holds, as `streams` streams beside each other, prefetching `ahead` bytes. */
INLINE double read_once(u64 bytes, u32 streams, u32 ahead)
{
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    u64 part = bytes / streams;
    double start = now();
    for (u64 i = 0; i < part; i += 64) {
        for (u32 s = 0; s < streams; s++) {
            const char *p = memory + s * part + i;
            if (ahead) prefetch(p + ahead);
            sums[s] = _mm256_xor_si256(sums[s], _mm256_loadu_si256((const __m256i *)p));
            sums[s] = _mm256_xor_si256(sums[s], _mm256_loadu_si256((const __m256i *)(p + 32)));
        }
    }
    double rate = bytes / (now() - start) * 1e-9;
    for (u32 s = 0; s < streams; s++) __asm__ volatile("" : : "x"(sums[s]));
    return rate;
}

/* GB/s of a loop that only reads: the best of one to four streams, with and without prefetch. */
static double read_rate(u64 bytes)
{
    const double rates[] = {read_once(bytes, 1, 0), read_once(bytes, 1, 1024), read_once(bytes, 2, 0),
                            read_once(bytes, 2, 1024), read_once(bytes, 4, 0), read_once(bytes, 4, 1024)};
    double best = 0;
    for (u32 i = 0; i < sizeof rates / sizeof *rates; i++) if (rates[i] > best) best = rates[i];
    return best;
}

static void run(struct bench *bench)
{
    void *views[6];
    for (int i = 0; i < 6; i++) {
        views[i] = aligned_alloc(64, (bench->views[i] + 127) / 64 * 64);
        for (u64 j = 0; j < bench->views[i] / 4; j++) ((float *)views[i])[j] = (float)((j * 37) % 101) * 0.01f - 0.5f;
    }
    if (bench->rows_table >= 0) {
        i32 *rows = views[bench->rows_table], *pages = views[bench->rows_table + 1];
        rows[0] = 0, rows[1] = (i32)bench->dims[0], rows[2] = (i32)bench->position;
        for (u32 i = 0; i < bench->dims[2]; i++) pages[i] = (i32)i;
    }
    struct pages seen = {0, 0};
    struct call call = {views, bench->dims, aligned_alloc(64, (bench->shared + 127) / 64 * 64), aligned_alloc(64, (bench->local + 127) / 64 * 64), &seen};
    u64 copies = READ / bench->w_bytes; /* other weights each time, as many bytes as the limit reads */
    if (bench->flop / bench->w_bytes > 20 && copies > 4) copies = 4;
    if (copies < 1) copies = 1;
    double best = 0, peak = 0, rate = 0;
    for (int repeat = 0; repeat < 10; repeat++) { /* neighbours disturb: limits and kernel in turn, the best of each */
        double start = now();
        for (u64 i = 0; i < copies; i++) {
            views[bench->w] = memory + i * bench->w_bytes;
            if (bench->prepare) bench->prepare(&call, 0, bench->prepare_tiles);
            bench->kernel(&call, 0, bench->tiles);
        }
        double time = (now() - start) / copies;
        if (repeat == 0 || time < best) best = time;
        double peak_now = fma_peak(), rate_now = read_rate(READ);
        if (peak_now > peak) peak = peak_now;
        if (rate_now > rate) rate = rate_now;
    }
    double flop = bench->flop / best * 1e-9, bytes = bench->w_bytes / best * 1e-9;
    printf("%-36s %9.3f ms  %6.1f GFLOP/s %3.0f %% of %5.1f   %5.1f GB/s %3.0f %% of %4.1f\n", bench->name, best * 1e3,
           flop, 100 * flop / peak, peak, bytes, 100 * bytes / rate, rate);
    fflush(stdout);
}

int main(void)
{
    memory = mmap(0, (u64)MEMORY + (64 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, (u64)MEMORY + (64 << 20), MADV_NOHUGEPAGE);
    for (u64 i = 0; i < ((u64)MEMORY + (64 << 20)) / 2; i++) ((u16 *)memory)[i] = 0x2c00; /* a small number in every type */
    for (u32 i = 0; i < sizeof benches / sizeof *benches; i++) run(&benches[i]);
    return 0;
}
