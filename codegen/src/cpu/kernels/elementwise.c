@store@
/* A tile is @tile@ rows. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { WIDTH = @width@ };
    u32 last = min_u32(end * @tile@, @rows@);
    for (u32 row = begin * @tile@; row < last; row++) {
        for (u32 column = 0; column < WIDTH; column += 16) @name@_at(c, row, column);
    }
}
