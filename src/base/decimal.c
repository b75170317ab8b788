/* SPDX-License-Identifier: Apache-2.0 */
/* decimal.c - see decimal.h.
 *
 * v is m / 2^e with whole m < 2^53 and, in the range served, 32 < e < 67.  With k digits after the
 * point the nearest decimal is d / 10^k, where d is m * 10^k / 2^e rounded; k is at most 20, so
 * that m * 10^k is below 2^120 and all of this is exact in 128 bits.  d / 10^k reads back as v when
 * it is nearer to it than half the distance to the next double:
 *     |d / 10^k - m / 2^e| < 1 / 2^(e+1), that is 2 * |d * 2^e - m * 10^k| < 10^k.
 * Equality cannot be, as e > k.  The double below a power of two is nearer than that, but those in
 * the range have 13 digits at most and are written exactly. */
#include "base/decimal.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef unsigned __int128 wide;

static const uint64_t powers[] = {
    1,
    10,
    100,
    1000,
    10000,
    100000,
    1000000,
    10000000,
    100000000,
    1000000000,
    10000000000,
    100000000000,
    1000000000000,
    10000000000000,
    100000000000000,
    1000000000000000,
    10000000000000000,
    100000000000000000,
    1000000000000000000,
    10000000000000000000u,
};

static wide power_of_ten(unsigned k)
{
    return k < 20 ? powers[k] : (wide)powers[19] * powers[k - 19];
}

/* Nearest whole number to m * 10^k / 2^e, a tie to the even one; *good: d / 10^k reads back. */
static uint64_t round_at(uint64_t m, unsigned e, unsigned k, bool *good)
{
    wide scaled = m * power_of_ten(k), half = (wide)1 << (e - 1), rest;
    uint64_t d = (uint64_t)(scaled >> e);

    rest = scaled & (((wide)1 << e) - 1);
    if (rest > half || (rest == half && (d & 1))) {
        d++;
        rest = ((wide)1 << e) - rest;
    }
    *good = 2 * rest < power_of_ten(k);
    return d;
}

/* d / 10^k as text, without zeros at the end but for one after the point. */
static void write(char *out, uint64_t d, unsigned k)
{
    char digits[24];
    unsigned n = 0;

    while (k > 1 && d % 10 == 0) d /= 10, k--;
    while (d || n <= k) { /* backwards; at least one digit before the point */
        digits[n++] = (char)('0' + d % 10);
        d /= 10;
        if (n == k) digits[n++] = '.';
    }
    if (digits[n - 1] == '.') digits[n++] = '0';
    while (n) *out++ = digits[--n];
    *out = 0;
}

bool rr_decimal_short(double v, char out[RR_DECIMAL_TEXT])
{
    static const double bounds[] = { 1e-3, 1e-2, 1e-1, 1, 1e1, 1e2, 1e3, 1e4, 1e5, HUGE_VAL };
    double a = fabs(v);
    unsigned at = 0, k = 0, digits;
    int exponent;
    bool good = false;
    uint64_t m, d = 0;

    if (!(a >= 1e-4 && a < 1e6)) return false;
    m = (uint64_t)ldexp(frexp(a, &exponent), 53);
    while (a >= bounds[at]) at++;
    for (digits = 15; digits <= 17 && !good; digits++) {
        k = digits + 3 - at; /* in the first range three zeros after the point come first */
        d = round_at(m, (unsigned)(53 - exponent), k, &good);
    }
    if (!good) return false;
    if (v < 0) *out++ = '-';
    write(out, d, k);
    return true;
}
