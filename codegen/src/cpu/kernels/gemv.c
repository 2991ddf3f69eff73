@store@
@prepare@
/* One row. A tile is GROUP column panels, AT_ONCE of them streamed together. */
void @name@(const struct call *c, u32 begin, u32 end)
{
    enum { N = @n@, PANELS = @panels@, GROUP = @group@, AT_ONCE = @at_once@, PAIR = @pair@, STEPS = @steps@, AHEAD = @ahead@ };
    enum { PANEL = STEPS * PAIR * 16 };
    const @type@ *weights = c->views[@w@];
    const f32 *x = @row@;
    u32 panel = begin * GROUP, last = min_u32(end * GROUP, PANELS);
    vf sums[AT_ONCE];
    for (; panel + AT_ONCE <= last; panel += AT_ONCE) {
        row_times_panels_@type@(AT_ONCE, STEPS, x, weights + (u64)panel * PANEL, PANEL, AHEAD, sums);
        for (u32 p = 0; p < AT_ONCE; p++) @name@_store(c, 0, (panel + p) * 16, sums[p]);
    }
    for (; panel < last; panel++) {
        row_times_panels_@type@(1, STEPS, x, weights + (u64)panel * PANEL, PANEL, AHEAD, sums);
        @name@_store(c, 0, panel * 16, sums[0]);
    }
}
