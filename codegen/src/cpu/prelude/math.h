/* exp and tanh as fixed chains of FMA, the same bits in every class; and what rows need of statistics. */

/* e^x = 2^n e^r, n the whole number nearest to x / ln 2, |r| <= ln 2 / 2; e^r by the minimax polynomial of
 * Cephes' expf. For x in -126 ln 2 .. 128 ln 2, where results are normal. Error <= 2 ulp. */
INLINE vf vf_exp_inside(vf x)
{
    vf to_whole = vf_all(0x1.8p23f); /* adding it leaves the nearest whole number in the last bits */
    vf whole = vf_fma(x, vf_all(1.44269504088896341f), to_whole), n = vf_sub(whole, to_whole);
    vf r = vf_fma(n, vf_all(-0.693359375f), x);
    r = vf_fma(n, vf_all(2.12194440e-4f), r);
    vf p = vf_all(1.9875691500e-4f);
    p = vf_fma(p, r, vf_all(1.3981999507e-3f));
    p = vf_fma(p, r, vf_all(8.3334519073e-3f));
    p = vf_fma(p, r, vf_all(4.1665795894e-2f));
    p = vf_fma(p, r, vf_all(1.6666665459e-1f));
    p = vf_fma(p, r, vf_all(5.0000001201e-1f));
    p = vf_add(vf_fma(p, vf_mul(r, r), r), vf_all(1.0f));
    return vf_raise(p, whole);
}

/* e^x for x <= 0. Below -126 ln 2, where results would be subnormal, it is 0. */
INLINE vf vf_exp_of_negative(vf x)
{
    vf least = vf_all(-87.3365f);
    return vf_if_less(x, least, vf_zero(), vf_exp_inside(vf_max(least, x)));
}

/* e^x for all x; from 128 ln 2 on it is infinite. */
INLINE vf vf_exp(vf x)
{
    vf most = vf_all(88.72283f);
    return vf_if_less(x, most, vf_exp_of_negative(vf_min(most, x)), vf_add(x, vf_all(__builtin_inff()))); /* NaN stays */
}

/* 1 + tanh x = 2 / (1 + e^-2x), without the cancellation. Error <= 4 ulp down to x = -44.35, below
 * which it stays where it is, 6e-39. */
INLINE vf vf_one_plus_tanh(vf x)
{
    vf exponent = vf_mul(vf_all(-2.0f), x);
    exponent = vf_min(vf_all(88.7f), vf_max(vf_all(-87.3f), exponent)); /* NaN stays */
    return vf_div(vf_all(2.0f), vf_add(vf_all(1.0f), vf_exp_inside(exponent)));
}

/* tanh x: an odd polynomial below 0.625 (Cephes' tanhf), 1 - 2 / (e^2x + 1) above. Error <= 2 ulp. */
INLINE vf vf_tanh(vf x)
{
    vf size = vf_absolute(x), square = vf_mul(x, x);
    vf p = vf_all(-5.70498872745e-3f);
    p = vf_fma(p, square, vf_all(2.06390887954e-2f));
    p = vf_fma(p, square, vf_all(-5.37397155531e-2f));
    p = vf_fma(p, square, vf_all(1.33314422036e-1f));
    p = vf_fma(p, square, vf_all(-3.33332819422e-1f));
    vf near = vf_fma(vf_mul(p, square), x, x);
    vf far = vf_sub(vf_all(1.0f), vf_div(vf_all(2.0f), vf_add(vf_exp(vf_add(size, size)), vf_all(1.0f))));
    return vf_if_less(size, vf_all(0.625f), near, vf_with_sign(far, x));
}

/* ln x = n ln 2 + ln m, m near 1, by the polynomial of Cephes' logf. Subnormals are made normal first; 0 gives
 * minus infinity, less than 0 NaN. Error <= 2 ulp. */
INLINE vf vf_log(vf x)
{
    vf small = vf_all(0x1p-126f), zero = vf_zero(), infinity = vf_all(__builtin_inff()), m;
    vf normal = vf_if_less(x, small, vf_mul(x, vf_all(0x1p24f)), x);
    vf n = vf_exponent(normal, &m);
    n = vf_if_less(x, small, vf_sub(n, vf_all(24.0f)), n);
    vf r = vf_sub(m, vf_all(1.0f)), square = vf_mul(r, r);
    vf p = vf_all(7.0376836292e-2f);
    p = vf_fma(p, r, vf_all(-1.1514610310e-1f));
    p = vf_fma(p, r, vf_all(1.1676998740e-1f));
    p = vf_fma(p, r, vf_all(-1.2420140846e-1f));
    p = vf_fma(p, r, vf_all(1.4249322787e-1f));
    p = vf_fma(p, r, vf_all(-1.6668057665e-1f));
    p = vf_fma(p, r, vf_all(2.0000714765e-1f));
    p = vf_fma(p, r, vf_all(-2.4999993993e-1f));
    p = vf_fma(p, r, vf_all(3.3333331174e-1f));
    p = vf_mul(vf_mul(p, r), square);
    p = vf_fma(n, vf_all(-2.12194440e-4f), p);
    p = vf_fma(square, vf_all(-0.5f), p);
    p = vf_fma(n, vf_all(0.693359375f), vf_add(r, p));
    p = vf_if_less(x, infinity, p, x);                        /* infinity and NaN stay */
    p = vf_if_less(zero, vf_absolute(x), p, vf_add(vf_negative(infinity), x)); /* 0; NaN stays */
    return vf_if_less(x, zero, vf_all(__builtin_nanf("")), p);
}

/* x[width] as groups of 16; lane i sums elements i, i + 16, ..; then the tree of `vf_sum`. */
struct moments { float mean, scale; };

/* The mean of a row and 1 / sqrt(variance + epsilon), the variance in a second pass over it. */
INLINE struct moments row_moments(const f32 *x, u32 width, float epsilon)
{
    u32 whole = width / 16 * 16, rest = width % 16;
    vf sum = vf_zero(), squares = vf_zero();
    for (u32 i = 0; i < whole; i += 16) sum = vf_add(sum, vf_load(x + i));
    if (rest) sum = vf_add(sum, vf_load_f32_n(x + whole, rest));
    float mean = vf_sum(sum) / (float)width;
    for (u32 i = 0; i < whole; i += 16) {
        vf far = vf_sub(vf_load(x + i), vf_all(mean));
        squares = vf_fma(far, far, squares);
    }
    if (rest) {
        vf far = vf_keep(vf_sub(vf_load_f32_n(x + whole, rest), vf_all(mean)), rest, vf_zero());
        squares = vf_fma(far, far, squares);
    }
    float variance = vf_sum(squares) / (float)width;
    return (struct moments){mean, 1.0f / vf_first(vf_sqrt(vf_all(variance + epsilon)))};
}

/* 16 elements of a normalised row: (x - mean) * scale * gamma + beta. */
INLINE vf normalised(vf x, struct moments m, vf gamma, vf beta)
{
    return vf_fma(vf_mul(vf_sub(x, vf_all(m.mean)), vf_all(m.scale)), gamma, beta);
}
