/* SPDX-License-Identifier: Apache-2.0 */
/* attr.h - compiler attributes by one name.  Layer: base (L0). */
#ifndef RR_BASE_ATTR_H
#define RR_BASE_ATTR_H

#define RR_NODISCARD __attribute__((warn_unused_result))
#define RR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define RR_NOINLINE __attribute__((noinline))
#define RR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define RR_ALIGNED(n) __attribute__((aligned(n)))

#define RR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RR_MAX(a, b) ((a) > (b) ? (a) : (b))
#define RR_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
