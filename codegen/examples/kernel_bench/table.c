#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct bench {
    const char *name;
    void (*prepare)(const struct call *, u32, u32), (*kernel)(const struct call *, u32, u32);
    u32 prepare_tiles, tiles, dims[3];
    u64 views[6];
    u32 w;
    u64 w_bytes, shared, local;
    double flop;
    i32 rows_table; /* view of the table of sequences, pages behind it, or -1 */
    u32 position;
};
