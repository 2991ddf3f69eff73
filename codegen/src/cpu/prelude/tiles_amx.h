/* Tiles by the instructions of AMX-TILE and AMX-BF16, see `tiles.h`. As assembly, since compilers' intrinsics say too little
 * of what these read: gcc 12's configuration names 8 of its 64 bytes, its loads name no memory at all. Compilers use no tile
 * on their own, so tiles keep what they hold from one statement to the next. */

/* What `ldtilecfg` reads. Two kinds of shape are all there is: 16 rows of 64 bytes, or fewer rows. */
struct tiles { u8 palette, start_row, reserved[14]; u16 row_bytes[16]; u8 rows[16]; };

/* Left tile 4 has so many rows, left tile 5 `second`, and their sums accordingly; without a second all sums are of 4.
 * Every tile becomes zero. */
INLINE void tiles_begin(struct tiles *tiles, u32 first, u32 second)
{
    *tiles = (struct tiles){.palette = 1};
    for (u32 i = 0; i < 8; i++) {
        u32 below = i == 2 || i == 3 || i == 5;
        tiles->row_bytes[i] = 64;
        tiles->rows[i] = (u8)(i >= 6 ? 16 : below && second ? second : first);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(*tiles) : "memory");
}

/* Gives the tiles back: a thread without any is switched faster. */
INLINE void tiles_end(struct tiles *tiles)
{
    (void)tiles;
    __asm__ volatile("tilerelease" : : : "memory");
}

#define tile_zero(tiles, tile) __asm__ volatile("tilezero %%tmm" #tile : : )
#define tile_load(tiles, tile, from) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"(64ll) : "memory")
#define tile_store(tiles, tile, to) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"(64ll) : "memory")
#define tile_product(tiles, sums, left, right) \
    __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sums : : )
