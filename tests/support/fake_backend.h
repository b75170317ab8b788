/* SPDX-License-Identifier: Apache-2.0 */
/* fake_backend.h - switches of the devices "fault:0", "fault:1", ... (librerank_fault.so), a backend
 * that fails on demand.  docs/internals/engine.md says how tests use it.
 *
 * A test program finds the switches of its own process with fault_control, got by dlsym from the
 * plugin.  For another process they are set by the environment: RR_FAULT="poison_id=7,code=5" when
 * the device is opened, or the file that RR_FAULT_FILE names, read before each run.  "fail=1" is for
 * all devices, "fail2=1" for device 2. */
#ifndef TESTS_SUPPORT_FAKE_BACKEND_H
#define TESTS_SUPPORT_FAKE_BACKEND_H

#include <stdatomic.h>

enum { FAULT_DEVICES = 8 };

/* Of one device.  All 0: nothing fails.  Token ids are those of the model's tokenizer. */
struct fault_control {
    _Atomic int fail_next;   /* so many runs from now on fail */
    _Atomic int fail;        /* not 0: every run fails */
    _Atomic int code;        /* what failures return; 0: RR_EDEVICE */
    _Atomic int hang;        /* not 0: a run does not end until it is 0 again */
    _Atomic int slow_us;     /* a run takes so much longer */
    _Atomic int token_us;    /* and so much for each token */
    _Atomic int held_run;    /* run of this number, from 1: takes 300 ms longer */
    _Atomic int poison_id;   /* runs with this token fail */
    _Atomic int nan_id;      /* sequences with this token get NaN */
    _Atomic int missing;     /* so many logits at the end of a batch are not written */
    _Atomic int wrong;       /* not 0: logits are off by 1 */
    _Atomic int open_code;   /* open returns this */
    _Atomic int load_code;   /* load returns this */
    _Atomic int noise_ppm;   /* precisions other than f32 are off by up to so many millionths */
    _Atomic int other;       /* not 0: another instruction set, with other logits: the negative ones */
    _Atomic int runs, pairs; /* counts what was asked for */
    _Atomic int opens;
};

/* Of all devices, [FAULT_DEVICES].  The one function of the plugin besides its entry. */
typedef struct fault_control *fault_control_fn(void);

#endif
