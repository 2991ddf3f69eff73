/* AMX for processors without it: included before everything else. The compiled kernels hold the instructions themselves;
 * each is an illegal one here, and a handler of that signal does what Intel's manual says of it ("Intel 64 and IA-32
 * Architectures Software Developer's Manual", volume 2, LDTILECFG to TILEZERO), by the processor's own FMA under flushing of
 * small numbers. What the manual forbids ends the program: shapes that do not fit, tiles that are not configured, a
 * program that ends with tiles it did not release. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#define _MM_MALLOC_H_INCLUDED
#define __MM_MALLOC_H
#include <immintrin.h>
#undef _MM_MALLOC_H_INCLUDED /* the prelude defines them in turn */
#undef __MM_MALLOC_H

static struct { int configured, rows[8], row_bytes[8]; unsigned char at[8][16][64]; } emulated;

static void emulated_must(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "AMX: %s\n", what);
    _Exit(1);
}

static void emulated_configure(const unsigned char *config)
{
    memset(&emulated, 0, sizeof emulated);
    emulated_must(config[0] == 1 && config[1] == 0, "another palette, or a start row");
    for (int i = 2; i < 16; i++) emulated_must(config[i] == 0, "reserved bytes of a configuration");
    for (int t = 0; t < 16; t++) {
        int row_bytes = config[16 + 2 * t] | config[17 + 2 * t] << 8, rows = config[48 + t];
        emulated_must(t < 8 ? rows <= 16 && row_bytes <= 64 : !rows && !row_bytes, "a tile that is too large, or too many");
        emulated_must(!rows == !row_bytes, "a tile without rows or without columns");
        if (t < 8) emulated.rows[t] = rows, emulated.row_bytes[t] = row_bytes;
    }
    emulated.configured = 1;
}

static void emulated_product(int c, int a, int b)
{
    emulated_must(a != b && a != c && b != c, "one tile used twice");
    emulated_must(emulated.rows[c] == emulated.rows[a] && emulated.row_bytes[c] == emulated.row_bytes[b] &&
                  emulated.row_bytes[a] / 4 == emulated.rows[b], "shapes that do not fit");
    unsigned before = _mm_getcsr();
    _mm_setcsr(0x1f80 | 0x8040); /* to the nearest, small numbers are zero */
    for (int m = 0; m < emulated.rows[c]; m++) {
        __m128 even[16], odd[16];
        for (int n = 0; n < 16; n++) even[n] = odd[n] = _mm_setzero_ps();
        for (int k = 0; k < emulated.rows[b]; k++) for (int n = 0; n < emulated.row_bytes[b] / 4; n++) {
            unsigned x, y;
            memcpy(&x, &emulated.at[a][m][4 * k], 4), memcpy(&y, &emulated.at[b][k][4 * n], 4);
            __m128i left = _mm_cvtsi32_si128((int)x), right = _mm_cvtsi32_si128((int)y), upper = _mm_cvtsi32_si128((int)0xffff0000);
            even[n] = _mm_fmadd_ss(_mm_castsi128_ps(_mm_slli_epi32(left, 16)), _mm_castsi128_ps(_mm_slli_epi32(right, 16)), even[n]);
            odd[n] = _mm_fmadd_ss(_mm_castsi128_ps(_mm_and_si128(left, upper)), _mm_castsi128_ps(_mm_and_si128(right, upper)), odd[n]);
        }
        for (int n = 0; n < emulated.row_bytes[c] / 4; n++) {
            float sum;
            memcpy(&sum, &emulated.at[c][m][4 * n], 4);
            sum = _mm_cvtss_f32(_mm_add_ss(_mm_set_ss(sum), _mm_add_ss(even[n], odd[n])));
            memcpy(&emulated.at[c][m][4 * n], &sum, 4);
        }
    }
    _mm_setcsr(before);
}

static void emulated_move(int t, unsigned char *at, long stride, int store)
{
    if (!store) memset(emulated.at[t], 0, sizeof emulated.at[t]);
    for (int row = 0; row < emulated.rows[t]; row++) {
        unsigned char *there = at + row * stride;
        if (store) memcpy(there, emulated.at[t][row], (size_t)emulated.row_bytes[t]);
        else memcpy(emulated.at[t][row], there, (size_t)emulated.row_bytes[t]);
    }
}

/* VEX.128.0F38.W0, one byte of operation, a memory operand or tiles. */
static void emulated_instruction(int signal_number, siginfo_t *info, void *context)
{
    static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t *general = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)general[REG_RIP], *at = code + 5;
    (void)signal_number, (void)info;
    emulated_must(code[0] == 0xc4 && (code[1] & 31) == 2 && !(code[2] & 0x84), "an illegal instruction that is none of AMX");
    int prefix = code[2] & 3, third = ~code[2] >> 3 & 15, mode = code[4] >> 6, reg = code[4] >> 3 & 7, rm = code[4] & 7;
    unsigned char *address = 0;
    long stride = 0;
    if (mode != 3) {
        int base = rm;
        if (rm == 4) {
            int sib = *at++, index = (sib >> 3 & 7) | (~code[1] >> 6 & 1) << 3;
            base = sib & 7;
            stride = index == 4 ? 0 : (long)general[registers[index]] << (sib >> 6);
        }
        int from_base = !(base == 5 && mode == 0), displacement = 0;
        if (mode == 1) displacement = (signed char)*at++;
        if (mode == 2 || !from_base) memcpy(&displacement, at, 4), at += 4;
        if (from_base) address = (unsigned char *)general[registers[base | (~code[1] >> 5 & 1) << 3]];
        else if (rm == 5) address = (unsigned char *)at;
        address += displacement;
    }
    int operation = code[3] << 4 | prefix;
    if (operation == 0x490 && mode != 3) {
        emulated_configure(address);
    } else {
        emulated_must(emulated.configured, "tiles that are not configured");
        if (operation == 0x490) memset(&emulated, 0, sizeof emulated);
        else if (operation == 0x493) memset(emulated.at[reg], 0, sizeof emulated.at[reg]);
        else if (operation == 0x4b3 || operation == 0x4b2) emulated_move(reg, address, stride, prefix == 2);
        else if (operation == 0x5c2) emulated_product(reg, rm, third);
        else emulated_must(0, "an instruction that is not emulated");
    }
    general[REG_RIP] = (greg_t)at;
}

static void emulated_end(void) { emulated_must(!emulated.configured, "the program ends with tiles it did not release"); }

__attribute__((constructor)) static void emulated_begin(void)
{
    struct sigaction action = {.sa_sigaction = emulated_instruction, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, 0);
    atexit(emulated_end);
}
