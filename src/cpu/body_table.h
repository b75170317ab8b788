/* SPDX-License-Identifier: Apache-2.0 */
/* body_table.h - the table of one level, from what the bodies defined.
 * Layer: cpu (L1).  Included by a level file after all bodies; LEVEL(symbol, name, needs) defines
 * it.  Without linear_i16 of its own: I16_LEVEL(symbol), the one that is asked for it. */
#ifndef RR_CPU_BODY_TABLE_H
#define RR_CPU_BODY_TABLE_H

#include "cpu/body_attention_f32.h"

#if !defined(OWN_TILES_END)
RR_INLINE void tiles_end(void) {} /* what a level's own tiles need when a kernel ends */
#endif

#include "cpu/body_linear_i8.h"
#include "cpu/body_rows_rotary.h"

#if defined(BF16_DOT) || defined(BF16_OWN_TILES) || defined(BF16_OWN_LINEAR)
#include "cpu/body_attention_bf16.h"
#define ATTENTION_BF16 attention_bf16
#else
#define ATTENTION_BF16 NULL
#endif

#if defined(I16_DOT)
#include "cpu/body_attention_i16.h"
#define ATTENTION_I16 attention_i16
#define QUANTIZE_I16 quantize_i16
#define LINEAR_I16 linear_i16
#define LINEAR_BF16 NULL
#define BF16_X RR_F32
#define I16_LEVEL(symbol) &symbol
#else
#include "cpu/body_linear_bf16.h"
#define LINEAR_BF16 linear_bf16
#define ATTENTION_I16 NULL
#define QUANTIZE_I16 NULL
#define LINEAR_I16 NULL
#if !defined(I16_LEVEL)
#define I16_LEVEL(symbol) NULL
#endif
#endif

#define LEVEL(symbol, level_name, level_needs)                                                     \
    extern const struct rr_kern symbol;                                                            \
    const struct rr_kern symbol = {                                                                \
        .name = level_name,                                                                        \
        .needs = level_needs,                                                                      \
        .f32_nr = NR,                                                                              \
        .pack_f32 = pack_f32,                                                                      \
        .linear_f32 = linear_f32,                                                                  \
        .attention_f32 = attention_f32,                                                            \
        .layernorm_f32 = layernorm_f32,                                                            \
        .rmsnorm_f32 = rmsnorm_f32,                                                                \
        .glu_f32 = glu_f32,                                                                        \
        .rotary_f32 = rotary_f32,                                                                  \
        .convert = convert,                                                                        \
        .add_convert = add_convert,                                                                \
        .packed_nr = PACKED_NR,                                                                    \
        .i8_nr = NARROW_NR,                                                                        \
        .i8_top = I8_TOP,                                                                          \
        .i8_wtop = I8_WTOP,                                                                        \
        .i8_zero = I8_ZERO,                                                                        \
        .quantize_i8 = quantize_i8,                                                                \
        .layernorm_i8 = layernorm_i8,                                                              \
        .linear_i8 = linear_i8,                                                                    \
        .bf16_nr = NARROW_NR,                                                                      \
        .bf16_x = BF16_X,                                                                          \
        .round_bf16 = round_bf16,                                                                  \
        .linear_bf16 = LINEAR_BF16,                                                                \
        .attention_bf16 = ATTENTION_BF16,                                                          \
        .attention_i16 = ATTENTION_I16,                                                            \
        .quantize_i16 = QUANTIZE_I16,                                                              \
        .linear_i16 = LINEAR_I16,                                                                  \
        .i16 = I16_LEVEL(symbol),                                                                  \
    }

#endif
