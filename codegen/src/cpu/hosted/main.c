/* Reads launches from the input until it ends, runs them, writes their views and counts of pages. See `hosted.rs` for the format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned int u32;
struct pages { unsigned long long seen, skipped; };
struct call { void *const *views; const u32 *dims; void *shared; void *local; struct pages *pages; };
struct entry { void (*phase[2])(const struct call *, u32, u32); };
extern const struct entry entries[];

/* Exactly `size` bytes, so that the address sanitizer sees a step beyond; filled with NaNs. */
static void *fresh(size_t size)
{
    void *p = 0;
    if (posix_memalign(&p, 64, size ? size : 1)) abort();
    memset(p, 0xff, size ? size : 1);
    return p;
}

static void take(void *to, size_t size)
{
    if (size && fread(to, size, 1, stdin) != 1) abort();
}

int main(void)
{
    u32 head[8];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        u32 kernel = head[0], at_once = head[3], dim_count = head[6], view_count = head[7];
        u32 dims[16], sizes[16];
        void *views[16];
        if (dim_count > 16 || view_count > 16) abort();
        take(dims, dim_count * 4);
        take(sizes, view_count * 4);
        for (u32 i = 0; i < view_count; i++) take(views[i] = fresh(sizes[i]), sizes[i]);
        struct pages pages = {0, 0};
        struct call call = {views, dims, fresh(head[4]), fresh(head[5]), &pages};
        for (u32 phase = 0; phase < 2; phase++) {
            u32 tiles = head[1 + phase], step = at_once ? at_once : tiles;
            for (u32 t = 0; t < tiles; t += step) {
                entries[kernel].phase[phase](&call, t, tiles - t < step ? tiles : t + step);
            }
        }
        for (u32 i = 0; i < view_count; i++) {
            if (sizes[i]) fwrite(views[i], sizes[i], 1, stdout);
            free(views[i]);
        }
        fwrite(&pages, sizeof pages, 1, stdout);
        free(call.shared);
        free(call.local);
    }
    return 0;
}
