/* layer_norm of one row x[@width@]. */
INLINE const f32 *@name@_norm(const struct call *c, const f32 *x, f32 *to)
{
    enum { WIDTH = @width@@whole@ };
@vectors@    struct moments m = row_moments(x, WIDTH, @epsilon@);
    for (u32 i = 0; i + 16 <= WIDTH; i += 16) {
        vf_store(to + i, normalised(vf_load(x + i), m, @gamma@, @beta@));
    }
@tail@    return to;
}
