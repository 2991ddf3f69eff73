/* Elements moved one by one. A tile is one step of the outermost extent. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    const @unit@ *from = (const @unit@ *)c->views[@x@] + @x_offset@;
    @unit@ *to = (@unit@ *)c->views[@out@] + @out_offset@;
    for (u32 i0 = begin; i0 < end; i0++) {
@loops@    }
}
