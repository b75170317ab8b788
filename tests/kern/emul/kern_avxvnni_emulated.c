/* SPDX-License-Identifier: Apache-2.0 */
/* kern_avxvnni_emulated.c - level "avxvnni" compiled against an emulated VPDPBUSD. */
#define RR_EMULATE_AVXVNNI
#include "cpu/x86/kern_avxvnni.c"
