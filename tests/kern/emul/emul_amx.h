/* SPDX-License-Identifier: Apache-2.0 */
/* emul_amx.h - the AMX intrinsics that the kernels use, in plain C, under their own names.
 * Follows the operation sections of the Intel SDM.  One thread.  What the processor would answer
 * with an exception (a tile without a shape, shapes that do not fit) ends the program. */
#ifndef RR_EMUL_AMX_H
#define RR_EMUL_AMX_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emul_avx512.h"

static struct {
    uint32_t rows, bytes;
    union {
        uint8_t u[16][64];
        int8_t b[16][64];
        int16_t h[16][32];
        int32_t i[16][16];
        float f[16][16];
    } data;
} emu_tiles[8];

static inline void emu_require(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "emulated AMX: %s\n", what);
    abort();
}

static inline void emu_loadconfig(const void *p)
{
    const uint8_t *c = (const uint8_t *)p;

    emu_require(c[0] == 1 && c[1] == 0, "palette or start row");
    for (int t = 0; t < 8; t++) {
        uint16_t bytes;

        memcpy(&bytes, c + 16 + 2 * t, 2);
        emu_require(bytes >= 1 && bytes <= 64 && c[48 + t] >= 1 && c[48 + t] <= 16, "shape");
        emu_tiles[t].rows = c[48 + t];
        emu_tiles[t].bytes = bytes;
        memset(&emu_tiles[t].data, 0, sizeof(emu_tiles[t].data));
    }
}
static inline void emu_release(void) { memset(emu_tiles, 0, sizeof(emu_tiles)); }

static inline void emu_zero(int t)
{
    emu_require(emu_tiles[t].rows > 0, "zeros in a tile without a shape");
    memset(&emu_tiles[t].data, 0, sizeof(emu_tiles[t].data));
}

static inline void emu_load(int t, const void *p, size_t stride)
{
    emu_require(emu_tiles[t].rows > 0, "load into a tile without a shape");
    memset(&emu_tiles[t].data, 0, sizeof(emu_tiles[t].data));
    for (uint32_t r = 0; r < emu_tiles[t].rows; r++)
        memcpy(emu_tiles[t].data.u[r], (const char *)p + r * stride, emu_tiles[t].bytes);
}
static inline void emu_store(int t, void *p, size_t stride)
{
    emu_require(emu_tiles[t].rows > 0, "store of a tile without a shape");
    for (uint32_t r = 0; r < emu_tiles[t].rows; r++)
        memcpy((char *)p + r * stride, emu_tiles[t].data.u[r], emu_tiles[t].bytes);
}

static inline void emu_shapes(int c, int a, int b)
{
    emu_require(emu_tiles[c].rows > 0 && emu_tiles[c].rows == emu_tiles[a].rows,
                "rows of a product");
    emu_require(emu_tiles[a].bytes == 4 * emu_tiles[b].rows, "depth of a product");
    emu_require(emu_tiles[c].bytes == emu_tiles[b].bytes, "columns of a product");
}
static inline void emu_dpbusd(int c, int a, int b)
{
    emu_shapes(c, a, b);
    for (uint32_t m = 0; m < emu_tiles[c].rows; m++)
        for (uint32_t k = 0; k < emu_tiles[b].rows; k++)
            for (uint32_t n = 0; n < emu_tiles[c].bytes / 4; n++)
                for (int i = 0; i < 4; i++)
                    emu_tiles[c].data.i[m][n] +=
                        emu_tiles[a].data.u[m][4 * k + i] * emu_tiles[b].data.b[k][4 * n + i];
}
static inline void emu_dpbf16ps(int c, int a, int b)
{
    emu_shapes(c, a, b);
    for (uint32_t m = 0; m < emu_tiles[c].rows; m++)
        for (uint32_t k = 0; k < emu_tiles[b].rows; k++)
            for (uint32_t n = 0; n < emu_tiles[c].bytes / 4; n++)
                for (int i = 0; i < 2; i++)
                    emu_tiles[c].data.f[m][n] =
                        __builtin_fmaf(emu_from_bf16(emu_tiles[a].data.h[m][2 * k + i]),
                                       emu_from_bf16(emu_tiles[b].data.h[k][2 * n + i]),
                                       emu_tiles[c].data.f[m][n]);
}

#define _tile_loadconfig(p) emu_loadconfig(p)
#define _tile_release() emu_release()
#define _tile_loadd(t, p, stride) emu_load(t, p, stride)
#define _tile_stream_loadd(t, p, stride) emu_load(t, p, stride)
#define _tile_zero(t) emu_zero(t)
#define _tile_stored(t, p, stride) emu_store(t, p, stride)
#define _tile_dpbusd(c, a, b) emu_dpbusd(c, a, b)
#define _tile_dpbf16ps(c, a, b) emu_dpbf16ps(c, a, b)

#endif
