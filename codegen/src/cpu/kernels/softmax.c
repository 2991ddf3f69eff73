/* A tile is @tile@ rows: e^(x - largest) / sum. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { WIDTH = @width@ };
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    f32 *out = (f32 *)c->views[@out@] + @out_offset@;
    u32 last = min_u32(end * @tile@, @rows@);
    for (u32 row = begin * @tile@; row < last; row++) {
        const f32 *from = x + (u64)row * @x_stride@;
        f32 *to = out + (u64)row * @out_stride@;
        vf largest = vf_all(-__builtin_inff()), sum = vf_zero();
        for (u32 i = 0; i < WIDTH; i += 16) {
            largest = vf_max(largest, vf_keep(load_some(from + i, WIDTH - i), WIDTH - i, largest));
        }
        vf top = vf_all(vf_largest(largest));
        for (u32 i = 0; i < WIDTH; i += 16) {
            vf e = vf_keep(vf_exp(vf_sub(load_some(from + i, WIDTH - i), top)), WIDTH - i, vf_zero());
            store_some(to + i, e, WIDTH - i);
            sum = vf_add(sum, e);
        }
        vf whole = vf_all(vf_sum(sum));
        for (u32 i = 0; i < WIDTH; i += 16) {
            store_some(to + i, vf_div(load_some(to + i, WIDTH - i), whole), WIDTH - i);
        }
    }
}
