/* SPDX-License-Identifier: Apache-2.0 */
/* grid.c - weights that are whole multiples of one step already.  Layer: cpu (L1).
 * Threads: pure functions.
 *
 * A value that was rounded to p significant bits says where the step can be, if it is known how
 * many steps it stands for: in (|w| -+ half a unit in its last place) / q.  So for each q that the
 * largest value may stand for, the others narrow that interval until nothing is left, nearly always
 * at once, or a step is found, which is then tried on every value. */
#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "cpu/weights.h"

#define TOP 127
#define TRIES 8 /* neighbours in the interval, where values lie halfway between two floats */

struct interval {
    double low, high;
};

static uint64_t bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

/* The number in [low, high] with the fewest significant bits; both are positive. */
static double simplest(struct interval i)
{
    uint64_t low = bits_of(i.low), high = bits_of(i.high), differ = low ^ high;
    double v;

    if (differ == 0) return i.low;
    high &= ~UINT64_C(0) << (63 - __builtin_clzll(differ));
    memcpy(&v, &high, sizeof(v));
    return v;
}

/* Nearest whole number, for |v| < 2^51; what is larger stays large. */
static inline double nearest(double v)
{
    return (v + 0x1.8p52) - 0x1.8p52;
}

/* Half a unit in the last place of a > 0 with p significant bits; f16 has no unit below 2^-24. */
static double half_unit(double a, int p)
{
    uint64_t half = ((bits_of(a) >> 52) - (uint64_t)p) << 52;
    double v;

    memcpy(&v, &half, sizeof(v));
    return p == 11 ? RR_MAX(v, 0x1p-25) : v;
}

/* Whether v, rounded to p bits, is a; zeros are equal. */
static bool rounds_to(float v, float a, int p)
{
    if (v == a) return true;
    if (p == 8) return rr_weights_round_bf16(v) == rr_weights_round_bf16(a);
    if (p == 11) return rr_weights_round_f16(v) == rr_weights_round_f16(a);
    return false;
}

/* q and true if every value is step q. */
static bool fits(int8_t *q, const float *w, uint32_t k, float step, int p)
{
    float inverse = 1 / step;

    for (uint32_t j = 0; j < k; j++) {
        float n = (float)nearest((double)(w[j] * inverse));

        if (!(fabsf(n) <= TOP) || !rounds_to(step * n, w[j], p)) return false;
        q[j] = (int8_t)n;
    }
    return true;
}

/* The step if the largest value, max, is `most` of them; 0: there is none. */
static float find_step(int8_t *q, const float *w, uint32_t k, float max, int most, int p)
{
    double unit = half_unit((double)max, p), step, inverse;
    struct interval in = { ((double)max - unit) / most, ((double)max + unit) / most };
    float at;

    step = simplest(in);
    inverse = 1 / step;
    for (uint32_t j = 0; j < k; j++) {
        double a = fabs((double)w[j]), n;

        if (a == 0) continue;
        n = nearest(a * inverse);
        if (!(n >= 1 && n <= TOP)) return 0;
        unit = half_unit(a, p);
        if (a - unit <= in.low * n && a + unit >= in.high * n) continue;
        in.low = RR_MAX(in.low, (a - unit) / n);
        in.high = RR_MIN(in.high, (a + unit) / n);
        if (in.low > in.high) return 0;
        step = simplest(in);
        inverse = 1 / step;
    }
    if (fits(q, w, k, (float)step, p)) return (float)step;
    at = (float)in.low;
    for (int i = 0; i < TRIES && (double)at <= in.high; i++, at = nextafterf(at, INFINITY))
        if (fits(q, w, k, at, p)) return at;
    return 0;
}

/* Whether all values are of a format with p significant bits. */
static bool has_format(const float *w, uint32_t k, int p)
{
    uint32_t all = 0, bits;

    for (uint32_t j = 0; j < k; j++) {
        memcpy(&bits, &w[j], 4);
        all |= bits;
        if (p == 11 && w[j] != 0 && fabsf(w[j]) < 0x1p-14f &&
            w[j] * 0x1p24f != rintf(w[j] * 0x1p24f))
            return false;
        if (p == 11 && fabsf(w[j]) > 65504.0f) return false;
    }
    return (all & ((1u << (24 - p)) - 1)) == 0;
}

float rr_weights_grid(int8_t *q, const float *w, uint32_t k)
{
    static const int formats[] = { 24, 11, 8 }; /* f32, f16, bf16: the strictest first */
    float max = 0, min = INFINITY;

    for (uint32_t j = 0; j < k; j++) {
        float a = fabsf(w[j]);

        max = a > max ? a : max;
        min = a < min && a > 0 ? a : min;
    }
    /* Nearly every other row ends here.  One more: both values may have been rounded. */
    if (!(max >= 1e-30f && max < INFINITY && max <= (TOP + 1) * min)) return 0;
    for (size_t f = 0; f < RR_COUNT(formats); f++) {
        if (!has_format(w, k, formats[f])) continue;
        for (int most = 1; most <= TOP; most++) {
            float step = find_step(q, w, k, max, most, formats[f]);

            if (step > 0) return step;
        }
    }
    return 0;
}
