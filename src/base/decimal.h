/* SPDX-License-Identifier: Apache-2.0 */
/* decimal.h - common doubles as decimal text, quickly.  Layer: base (L0).  Threads: any. */
#ifndef RR_BASE_DECIMAL_H
#define RR_BASE_DECIMAL_H

#include <stdbool.h>

#define RR_DECIMAL_TEXT 32

/* Writes v with the fewest digits, at least 15 tried, that read back as v: what "%.15g", "%.16g" or
 * "%.17g" gives in the C locale, with ".0" after a whole number.  False, and out is not touched,
 * for what scores seldom are: zero, |v| < 0.0001 or >= 1e6, not finite. */
bool rr_decimal_short(double v, char out[RR_DECIMAL_TEXT]);

#endif
