@norm@
/* A tile is one row: the table's row of that id, widened to f32. @layout@ */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { WIDTH = @width@ };
    const u32 table_rows = @table_rows@;
@first@    const @type@ *table = c->views[@table@];
    const i32 *ids = c->views[@ids@];
    @out_type@ *out = (@out_type@ *)c->views[@out@] + @out_offset@;
    for (u32 row = begin; row < end; row++) {
        @out_type@ *to = out + (u64)row * @out_stride@;
        u32 id = @id@
        for (u32 k = 0; k < WIDTH; k++) to[k] = @convert@(table[@element@]);
@apply@    }
}
