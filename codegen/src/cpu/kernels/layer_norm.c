@norm@
/* A tile is @tile@ rows. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    const f32 *x = (const f32 *)c->views[@x@] + @x_offset@;
    f32 *out = (f32 *)c->views[@out@] + @out_offset@;
    u32 last = min_u32(end * @tile@, @rows@);
    for (u32 row = begin * @tile@; row < last; row++) {
        @name@_norm(c, x + (u64)row * @x_stride@, out + (u64)row * @out_stride@);
    }
}
