/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_packed.c - packed weights kept in a file.  Layer: backend (L3).  Threads: the device's owner.
 * Nothing here fails: without a file, or without a place for one, weights are packed as always. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/log.h"
#include "quant/packed.h"

/* All that decides what the bytes of the weights mean. */
static struct rr_packed_key key_of(const struct rr_loaded *l, const struct rr_program *p)
{
    const struct rr_kern *k = l->device->kern;
    const uint64_t level[] = { k->f32_nr,  k->packed_nr, k->i8_nr,
                               k->i8_top,  k->i8_wtop,   (uint64_t)k->i8_zero,
                               k->bf16_nr, k->bf16_x,    p->mixed,
                               k->i16 ? k->i16->packed_nr : 0 };
    uint64_t h = 0;

    for (const char *c = k->name; *c; c++) h = rr_packed_mix(h, (unsigned char)*c);
    for (size_t i = 0; i < RR_COUNT(level); i++) h = rr_packed_mix(h, level[i]);
    for (uint32_t i = 0; i < l->n_steps; i++) {
        const struct rr_cpu_step *s = &l->steps[i];
        const struct rr_cpu_linear *w = &s->linear;

        h = rr_packed_mix(h, (uint64_t)s->op.kind << 32 | s->width);
        h = rr_packed_mix(h, (uint64_t)w->packing << 32 | w->nr);
        h = rr_packed_mix(h, (uint64_t)w->n << 32 | w->k);
        h = rr_packed_mix(h, w->smoothed);
        h = rr_packed_mix(h, (uint64_t)s->word.halved << 2 | (uint64_t)s->position.halved << 1 |
                                 s->type.halved);
        if (s->op.kind == RR_OP_ROTARY || s->op.kind == RR_OP_ATTENTION) /* tables of positions */
            h = rr_packed_mix(h, s->angles || s->op.u.attention.relative.on ? l->limits.max_length
                                                                           : 0);
    }
    return (struct rr_packed_key){ p->fingerprint, h, l->weight_bytes };
}

static bool path_of(char path[PATH_MAX], const struct rr_loaded *l, const struct rr_program *p,
                    int dir)
{
    static const char *const dtypes[] = { "f32", "bf16", "int8" };
    char name[96];

    if (!l->device->packed_dirs[dir] || p->fingerprint == 0) return false;
    snprintf(name, sizeof(name), "packed-%016" PRIx64 "-%s-%s.rrpk", p->fingerprint,
             l->device->kern->name, dtypes[l->device->packing]);
    return rr_path_join(path, PATH_MAX, l->device->packed_dirs[dir], name);
}

bool rr_cpu_packed_open(struct rr_loaded *l, const struct rr_program *p)
{
    struct rr_packed_key key = key_of(l, p);
    struct rr_error err = { 0 };
    char path[PATH_MAX];

    for (int dir = 0; dir < 2; dir++) {
        struct rr_file f;

        if (!path_of(path, l, p, dir) || !rr_file_exists(path)) continue;
        if (rr_file_map(&f, path, &err)) {
            rr_log(RR_INFO, "packed weights are not used: %s", err.msg);
            continue;
        }
        if (!rr_packed_check((struct rr_text){ f.data, f.len }, &key, &err)) {
            l->packed = f;
            rr_log(RR_INFO, "packed weights are mapped: %s", path);
            return true;
        }
        rr_log(RR_INFO, "packed weights are not used: %s: %s", path, err.msg);
        rr_file_unmap(&f);
    }
    return false;
}

void rr_cpu_packed_save(struct rr_loaded *l, const struct rr_program *p)
{
    struct rr_packed_key key = key_of(l, p);
    struct rr_error err = { 0 };
    char path[PATH_MAX];

    if (!path_of(path, l, p, 1)) return;
    if (rr_packed_save(path, l->block, &key, &err)) /* which was asked for */
        rr_log(RR_WARN, "packed weights are not kept: %s", err.msg);
    else
        rr_log(RR_INFO, "packed weights are kept for the next start: %s", path);
}
