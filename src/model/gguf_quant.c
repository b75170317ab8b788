/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_quant.c - see gguf_quant.h.  Layer: model (L4).
 *
 * The files are little-endian and so are all machines that rerankd runs on. */
#include "model/gguf_quant.h"

#include <math.h>
#include <string.h>

#include "base/attr.h"

enum { BLOCK = 32, SUPER = 256 }; /* elements of plain blocks and of the K types */

/* ---- half and brain floats ------------------------------------------------------------------ */

static float from_half(const unsigned char *p)
{
    uint32_t h = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    float f;

    if (exponent == 0) {
        f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    sign |= (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    memcpy(&f, &sign, sizeof(f));
    return f;
}

/* Nearest, ties to even; what is too large becomes infinite. */
static uint16_t to_half(float f)
{
    uint32_t bits, sign, rest;
    int exponent;

    memcpy(&bits, &f, sizeof(bits));
    sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return (uint16_t)(sign | 0x7E00);
    if (bits >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520 and more */
    exponent = (int)(bits >> 23) - 112;
    if (exponent > 0) { /* rounding may carry into the exponent, as it should */
        rest = bits + 0xFFF + (bits >> 13 & 1);
        return (uint16_t)(sign | (rest - ((uint32_t)112 << 23)) >> 13);
    }
    f = fabsf(f) * 0x1p24f; /* in steps of subnormals, exactly; below 1024 */
    return (uint16_t)(sign | (uint32_t)lrintf(f));
}

static uint16_t to_brain(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40); /* stays a NaN */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* A scale, 32 signed bytes. */
static void decode_q8_0(float *out, const unsigned char *b)
{
    float d = from_half(b);

    for (unsigned i = 0; i < BLOCK; i++) out[i] = d * (float)(signed char)b[2 + i];
}

/* A scale, 16 bytes of two: the low halves are the first 16 weights. */
static void decode_q4_0(float *out, const unsigned char *b)
{
    float d = from_half(b);

    for (unsigned i = 0; i < BLOCK / 2; i++) {
        out[i] = d * (float)((int)(b[2 + i] & 15) - 8);
        out[i + BLOCK / 2] = d * (float)((int)(b[2 + i] >> 4) - 8);
    }
}

/* A scale and a minimum, then as Q4_0. */
static void decode_q4_1(float *out, const unsigned char *b)
{
    float d = from_half(b), min = from_half(b + 2);

    for (unsigned i = 0; i < BLOCK / 2; i++) {
        out[i] = d * (float)(b[4 + i] & 15) + min;
        out[i + BLOCK / 2] = d * (float)(b[4 + i] >> 4) + min;
    }
}

/* 0 to 31: the fifth bits of all 32 weights in four bytes, then as Q4_0. */
static unsigned five_bits(const unsigned char *b, unsigned i)
{
    unsigned low = i < BLOCK / 2 ? b[4 + i] & 15u : (unsigned)b[4 + i - BLOCK / 2] >> 4;

    return low | (b[i / 8] >> i % 8 & 1u) << 4;
}

static void decode_q5_0(float *out, const unsigned char *b)
{
    float d = from_half(b);

    for (unsigned i = 0; i < BLOCK; i++) out[i] = d * (float)((int)five_bits(b + 2, i) - 16);
}

static void decode_q5_1(float *out, const unsigned char *b)
{
    float d = from_half(b), min = from_half(b + 2);

    for (unsigned i = 0; i < BLOCK; i++) out[i] = d * (float)five_bits(b + 4, i) + min;
}

/* The 16 steps of the IQ4 types, which lie closer around 0. */
static const signed char uneven[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113 };

static void decode_uneven(float *out, float d, const unsigned char *b)
{
    for (unsigned i = 0; i < BLOCK / 2; i++) {
        out[i] = d * (float)uneven[b[i] & 15];
        out[i + BLOCK / 2] = d * (float)uneven[b[i] >> 4];
    }
}

static void decode_iq4_nl(float *out, const unsigned char *b)
{
    decode_uneven(out, from_half(b), b + 2);
}

/* The scale of scales, of which 8 follow: two upper bits each, then four lower ones. */
static void decode_iq4_xs(float *out, const unsigned char *b)
{
    unsigned high = b[2] | (unsigned)b[3] << 8;
    float d = from_half(b);

    for (unsigned i = 0; i < SUPER / BLOCK; i++) {
        unsigned low = i % 2 ? b[4 + i / 2] >> 4 : b[4 + i / 2] & 15u;
        int scale = (int)(low | (high >> 2 * i & 3u) << 4) - 32;

        decode_uneven(out + i * BLOCK, d * (float)scale, b + 8 + i * BLOCK / 2);
    }
}

/* Two bits of weight i of 256: four runs of 32 share the bytes of one. */
static unsigned two_bits(const unsigned char *b, unsigned i)
{
    return b[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3u;
}

/* 16 bytes with a scale and a minimum of four bits each, 64 of weights, the scales of both. */
static void decode_q2_k(float *out, const unsigned char *b)
{
    float d = from_half(b + 80), dmin = from_half(b + 82);

    for (unsigned i = 0; i < SUPER; i++) {
        float step = d * (float)(b[i / 16] & 15), offset = dmin * (float)(b[i / 16] >> 4);

        out[i] = step * (float)two_bits(b + 16, i) - offset;
    }
}

/* 32 bytes of third bits, which mean 4 less where they are 0, 64 of the other two, 16 scales of six
 * bits: the lower four of all, then the upper two; the scale of scales. */
static void decode_q3_k(float *out, const unsigned char *b)
{
    const unsigned char *scales = b + 96;
    float d = from_half(b + 108);

    for (unsigned i = 0; i < SUPER; i++) {
        unsigned group = i / 16;
        unsigned low = group < 8 ? scales[group] & 15u : (unsigned)scales[group - 8] >> 4;
        unsigned high = scales[8 + group % 4] >> (2 * (group / 4)) & 3u;
        float step = d * (float)((int)(low | high << 4) - 32);
        int v = (int)two_bits(b + 32, i) - (b[i % 32] >> i / 32 & 1 ? 0 : 4);

        out[i] = step * (float)v;
    }
}

/* Q4_K and Q5_K: scale and minimum of group i of eight, six bits each in twelve bytes. */
static void scale_and_min(const unsigned char *s, unsigned i, unsigned *scale, unsigned *min)
{
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[i + 4] & 63;
    } else {
        *scale = (s[i + 4] & 15u) | (s[i - 4] >> 6 << 4);
        *min = (unsigned)s[i + 4] >> 4 | (s[i] >> 6 << 4);
    }
}

/* high: 32 bytes with the fifth bits, a bit per group; NULL: there are none. */
static void decode_k(float *out, const unsigned char *b, const unsigned char *high,
                     const unsigned char *low)
{
    float d = from_half(b), dmin = from_half(b + 2);

    for (unsigned group = 0; group < 8; group++) {
        const unsigned char *q = low + group / 2 * 32;
        unsigned scale, min;
        float step, offset;

        scale_and_min(b + 4, group, &scale, &min);
        step = d * (float)scale;
        offset = dmin * (float)min;
        for (unsigned i = 0; i < 32; i++) {
            unsigned v = group % 2 ? q[i] >> 4 : q[i] & 15u;

            if (high) v |= (high[i] >> group & 1u) << 4;
            out[group * 32 + i] = step * (float)v - offset;
        }
    }
}

static void decode_q4_k(float *out, const unsigned char *b)
{
    decode_k(out, b, NULL, b + 16);
}

static void decode_q5_k(float *out, const unsigned char *b)
{
    decode_k(out, b, b + 16, b + 48);
}

/* 128 bytes of low halves, 64 of two upper bits, 16 signed scales, the scale of scales. */
static void decode_q6_k(float *out, const unsigned char *b)
{
    const unsigned char *low = b, *high = b + 128, *scales = b + 192;
    float d = from_half(b + 208);

    for (unsigned half = 0; half < 2; half++) {
        for (unsigned i = 0; i < 128; i++) {
            unsigned quarter = i / 32, l = i % 32;
            unsigned char byte = low[half * 64 + (quarter & 1) * 32 + l];
            unsigned v = quarter < 2 ? byte & 15u : byte >> 4;
            unsigned at = half * 128 + i;

            v |= (high[half * 32 + l] >> (2 * quarter) & 3u) << 4;
            out[at] = d * (float)(signed char)scales[at / 16] * (float)((int)v - 32);
        }
    }
}

static const struct rr_gguf_type types[] = {
    { 0, "F32", 1, 4, RR_F32, NULL },
    { 1, "F16", 1, 2, RR_F16, NULL },
    { 30, "BF16", 1, 2, RR_BF16, NULL },
    { 8, "Q8_0", BLOCK, 34, RR_F32, decode_q8_0 },
    { 2, "Q4_0", BLOCK, 18, RR_F32, decode_q4_0 },
    { 3, "Q4_1", BLOCK, 20, RR_F32, decode_q4_1 },
    { 6, "Q5_0", BLOCK, 22, RR_F32, decode_q5_0 },
    { 7, "Q5_1", BLOCK, 24, RR_F32, decode_q5_1 },
    { 20, "IQ4_NL", BLOCK, 18, RR_F32, decode_iq4_nl },
    { 10, "Q2_K", SUPER, 84, RR_F32, decode_q2_k },
    { 11, "Q3_K", SUPER, 110, RR_F32, decode_q3_k },
    { 12, "Q4_K", SUPER, 144, RR_F32, decode_q4_k },
    { 13, "Q5_K", SUPER, 176, RR_F32, decode_q5_k },
    { 14, "Q6_K", SUPER, 210, RR_F32, decode_q6_k },
    { 23, "IQ4_XS", SUPER, 136, RR_F32, decode_iq4_xs },
};

const struct rr_gguf_type *rr_gguf_type(uint32_t id)
{
    for (size_t i = 0; i < RR_COUNT(types); i++)
        if (types[i].id == id) return &types[i];
    return NULL;
}

const char *rr_gguf_type_names(void)
{
    return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL and "
           "IQ4_XS";
}

const struct rr_gguf_type *rr_gguf_type_named(const char *name)
{
    static const char *const names[] = { "f32", "f16", "bf16", "q8_0" };

    for (size_t i = 0; i < RR_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return &types[i];
    return NULL;
}

/* ---- tensors -------------------------------------------------------------------------------- */

void rr_gguf_widen(float *out, const void *data, enum rr_dtype dtype, uint64_t n)
{
    const unsigned char *p = data;

    if (dtype == RR_F32) {
        memcpy(out, data, (size_t)n * sizeof(*out));
        return;
    }
    for (uint64_t i = 0; i < n; i++, p += 2) {
        uint32_t bits = ((uint32_t)p[0] | (uint32_t)p[1] << 8) << 16;

        if (dtype == RR_F16)
            out[i] = from_half(p);
        else
            memcpy(&out[i], &bits, sizeof(bits));
    }
}

void rr_gguf_decode(const struct rr_gguf_type *t, float *out, const void *data, uint64_t n)
{
    const unsigned char *p = data;

    if (!t->decode) {
        rr_gguf_widen(out, data, t->dtype, n);
        return;
    }
    for (uint64_t i = 0; i < n; i += t->block, p += t->bytes) t->decode(out + i, p);
}

static void encode_q8_0(unsigned char *out, const float *in)
{
    float most = 0, scale, inverse;
    uint16_t half;

    for (unsigned i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(in[i]));
    scale = most / 127.0f;
    inverse = scale > 0 ? 1.0f / scale : 0;
    half = to_half(scale);
    memcpy(out, &half, sizeof(half));
    for (unsigned i = 0; i < BLOCK; i++) out[2 + i] = (unsigned char)(int)roundf(in[i] * inverse);
}

bool rr_gguf_encode(const struct rr_gguf_type *t, void *out, const float *in, uint64_t n)
{
    unsigned char *p = out;

    if (t->decode && t->decode != decode_q8_0) return false;
    if (!t->decode && t->dtype == RR_F32) {
        memcpy(out, in, (size_t)n * sizeof(*in));
        return true;
    }
    for (uint64_t i = 0; i < n; i += t->block, p += t->bytes) {
        uint16_t v = t->dtype == RR_F16 ? to_half(in[i]) : to_brain(in[i]);

        if (t->decode)
            encode_q8_0(p, in + i);
        else
            memcpy(p, &v, sizeof(v));
    }
    return true;
}
