/* SPDX-License-Identifier: Apache-2.0 */
/* levels.c - the list of levels that are compiled against emulated instructions.  Layer: tests. */
#include "../check/check.h"

#if defined(__x86_64__)
extern const struct rr_kern rr_kern_avxvnni_emulated;
extern const struct rr_kern rr_kern_avx512_emulated;
extern const struct rr_kern rr_kern_avx512vnni_emulated;
extern const struct rr_kern rr_kern_avx512bf16_emulated;
extern const struct rr_kern rr_kern_amx_emulated;
#endif

const struct rr_kern *const check_emulated[] = {
#if defined(__x86_64__)
    &rr_kern_avxvnni_emulated,
    &rr_kern_avx512_emulated,
    &rr_kern_avx512vnni_emulated,
    &rr_kern_avx512bf16_emulated,
    &rr_kern_amx_emulated,
#endif
    NULL,
};
