/* Tiles in plain C, see `tiles.h`: the definition that the instructions are held to, from Intel's description of them. */
struct tiles { u8 rows[8]; union { bf16 halves[16][32]; f32 sums[16][16]; } at[8]; };

INLINE void tile_zero(struct tiles *tiles, u32 tile)
{
    for (u32 row = 0; row < 16; row++) for (u32 i = 0; i < 16; i++) tiles->at[tile].sums[row][i] = 0;
}

/* Left tile 4 has so many rows, left tile 5 `second`, and their sums accordingly; without a second all sums are of 4.
 * Every tile becomes zero. */
INLINE void tiles_begin(struct tiles *tiles, u32 first, u32 second)
{
    for (u32 i = 0; i < 8; i++) {
        u32 below = i == 2 || i == 3 || i == 5;
        tiles->rows[i] = (u8)(i >= 6 ? 16 : below && second ? second : first);
        tile_zero(tiles, i);
    }
}
INLINE void tiles_end(struct tiles *tiles) { (void)tiles; }

INLINE void tile_load(struct tiles *tiles, u32 tile, const void *from)
{
    const u8 *bytes = from;
    tile_zero(tiles, tile);
    for (u32 i = 0; i < tiles->rows[tile] * 64u; i++) ((u8 *)&tiles->at[tile])[i] = bytes[i];
}
INLINE void tile_store(const struct tiles *tiles, u32 tile, void *to)
{
    u8 *bytes = to;
    for (u32 i = 0; i < tiles->rows[tile] * 64u; i++) bytes[i] = ((const u8 *)&tiles->at[tile])[i];
}

/* A number too small to be normal counts as zero, of the same sign. */
INLINE f32 flushed(f32 x) { return (bits_of_float(x) & 0x7f800000) ? x : float_of_bits(bits_of_float(x) & 0x80000000); }

/* Two chains of FMA from zero, over even and over odd k; then their sum is added. */
INLINE void tile_product(struct tiles *tiles, u32 sums, u32 left, u32 right)
{
    for (u32 row = 0; row < tiles->rows[sums]; row++) for (u32 column = 0; column < 16; column++) {
        f32 chains[2] = {0, 0}, *sum = &tiles->at[sums].sums[row][column];
        for (u32 k = 0; k < 32; k++) {
            f32 a = flushed(f32_of_bf16(tiles->at[left].halves[row][k]));
            f32 b = flushed(f32_of_bf16(tiles->at[right].halves[k / 2][column * 2 + k % 2]));
            chains[k % 2] = flushed(fma_f32(a, b, chains[k % 2]));
        }
        *sum = flushed(flushed(*sum) + flushed(chains[0] + chains[1]));
    }
}
