enum { MEMORY = 1 << 30 };
static char *memory;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

/* GFLOP/s of 12 independent chains in registers. */
static double fma_peak(void)
{
    double best = 0;
    for (int repeat = 0; repeat < 20; repeat++) {
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

/* GB/s of reading memory that no cache holds, with and without prefetch the better one. */
static double read_rate(u64 bytes)
{
    double best = 0;
    for (int repeat = 0; repeat < 8; repeat++) {
        __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
        double start = now();
        for (const char *p = memory; p < memory + bytes; p += 128) {
            if (repeat % 2) { prefetch(p + 2048); prefetch(p + 2048 + 64); }
            a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)p));
            b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(p + 32)));
            c = _mm256_xor_si256(c, _mm256_loadu_si256((const __m256i *)(p + 64)));
            d = _mm256_xor_si256(d, _mm256_loadu_si256((const __m256i *)(p + 96)));
        }
        double rate = bytes / (now() - start) * 1e-9;
        __asm__ volatile("" : : "x"(a), "x"(b), "x"(c), "x"(d));
        if (rate > best) best = rate;
    }
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
    struct call call = {views, bench->dims, aligned_alloc(64, (bench->shared + 127) / 64 * 64), aligned_alloc(64, (bench->local + 127) / 64 * 64)};
    u64 copies = MEMORY / bench->w_bytes;
    if (bench->flop / bench->w_bytes > 20 && copies > 4) copies = 4;
    if (copies < 1) copies = 1;
    double best = 0, peak = 0, rate = 0;
    for (int repeat = 0; repeat < 6; repeat++) {
        double start = now();
        for (u64 i = 0; i < copies; i++) {
            views[bench->w] = memory + i * bench->w_bytes;
            if (bench->prepare) bench->prepare(&call, 0, bench->prepare_tiles);
            bench->kernel(&call, 0, bench->tiles);
        }
        double time = (now() - start) / copies;
        if (repeat == 0 || time < best) best = time;
    }
    peak = fma_peak();
    rate = read_rate(256 << 20);
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
