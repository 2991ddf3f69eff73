/* AMX on a processor that has it: included before everything else. Linux gives a process the registers of tiles when it
 * asks for them ("Using XSTATE features in user space applications", in the kernel's documentation); before that, the
 * first of their instructions ends it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((constructor)) static void ask_for_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0) return;
    fprintf(stderr, "the system grants no tiles\n");
    _Exit(1);
}
