/* The row @why@, a k past the end being zero. */
void @name@_prepare(const struct call *c, u32 begin, u32 end)
{
    enum { K = @k@, PAIR = @pair@, STEPS = @steps@ };
    (void)end;
    const f32 *from = (const f32 *)c->views[@x@] + @x_offset@ + (u64)begin * @x_stride@;
@ready@
    pad_row(from, K, PAIR * STEPS, c->shared);
}
