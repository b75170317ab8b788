/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_isa.c - chooses the kernel level and checks, in a few milliseconds, that it computes what the
 * reference computes: a wrong bit here would be wrong scores everywhere.
 * Layer: backend (L3).  Threads: any. */
#include <math.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* Odd sizes, so that tails of rows, columns and panels are part of the check. */
enum { M = 13, N = 75, K = 67, KV = 37, DIM = 32, HEADS = 2 };

#define TOLERANCE 1e-4f /* of values near 1: far above rounding, far below a wrong lane */

struct data { /* what both levels compute from, and what they compute */
    float x[M * K], w[N * K], bias[N], residual[M * N], gamma[K], beta[K];
    float qkv[KV * 3 * HEADS * DIM];
    uint16_t half[K];
};

struct results {
    float linear[4][M * N];
    float attention[KV * HEADS * DIM];
    float norm[M * K];
    float rows[2][K];
};

/* splitmix64 (Steele, Lea, Flood 2014), to [-1, 1): the same numbers on every machine. */
static float random_float(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (float)((double)(z >> 11) * 0x1p-52 - 1.0);
}

static void fill(float *v, size_t n, float size, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) v[i] = size * random_float(state);
}

static void make_data(struct data *d)
{
    uint64_t state = 1;

    fill(d->x, RR_COUNT(d->x), 1.0f, &state);
    fill(d->w, RR_COUNT(d->w), 0.3f, &state);
    fill(d->bias, RR_COUNT(d->bias), 1.0f, &state);
    fill(d->residual, RR_COUNT(d->residual), 1.0f, &state);
    fill(d->gamma, RR_COUNT(d->gamma), 1.0f, &state);
    fill(d->beta, RR_COUNT(d->beta), 1.0f, &state);
    fill(d->qkv, RR_COUNT(d->qkv), 1.0f, &state);
    /* Halves of size 2^-7 to 2, of both signs: 1 sign, 5 exponent, 10 fraction bits. */
    for (uint32_t i = 0; i < K; i++) d->half[i] = (uint16_t)(i << 15 | (8 + i % 8) << 10 | i * 15);
}

static bool compute(const struct rr_kern *kern, const struct data *d, struct results *r)
{
    uint32_t nr = kern->f32_nr, columns = (N + nr - 1) / nr * nr;
    size_t scratch_bytes = rr_attention_f32_scratch(KV, DIM) * sizeof(float);
    float *panels = rr_pages_alloc(RR_MEM_WORKSPACE, (size_t)columns * K * sizeof(float));
    float *bias = rr_pages_alloc(RR_MEM_WORKSPACE, columns * sizeof(float));
    float *scratch = rr_pages_alloc(RR_MEM_WORKSPACE, scratch_bytes);
    bool ok = panels && bias && scratch;

    for (int act = RR_ACT_NONE; ok && act <= RR_ACT_TANH; act++) {
        struct rr_linear_f32 a = { .y = r->linear[act], .x = d->x, .panels = panels, .bias = bias,
                                   .residual = act % 2 ? d->residual : NULL, .ldy = N, .ldx = K,
                                   .ldr = N, .m = M, .n = N, .k = K, .n_end = N,
                                   .act = (enum rr_act)act };

        kern->pack_f32(panels, d->w, RR_F32, 0, N, K);
        memcpy(bias, d->bias, sizeof(d->bias));
        kern->linear_f32(&a);
    }
    for (uint32_t h = 0; ok && h < HEADS; h++) {
        struct rr_attention_f32 a = { .y = r->attention + h * DIM, .q = d->qkv + h * DIM,
                                      .k = d->qkv + (HEADS + h) * DIM,
                                      .v = d->qkv + (2 * HEADS + h) * DIM, .ldy = HEADS * DIM,
                                      .ldq = 3 * HEADS * DIM, .ldk = 3 * HEADS * DIM,
                                      .ldv = 3 * HEADS * DIM, .n_q = KV, .n_kv = KV,
                                      .head_dim = DIM, .scale = 0.5f, .scratch = scratch };

        kern->attention_f32(&a);
    }
    if (ok) {
        kern->layernorm_f32(r->norm, K, d->x, K, d->gamma, d->beta, M, K, 1e-5f);
        kern->convert(r->rows[0], d->half, RR_F16, K);
        kern->convert(r->rows[1], d->half, RR_BF16, K);
        kern->add_convert(r->rows[0], d->half, RR_BF16, K);
        kern->add_convert(r->rows[1], d->x, RR_F32, K);
    }
    rr_pages_free(RR_MEM_WORKSPACE, scratch, scratch_bytes);
    rr_pages_free(RR_MEM_WORKSPACE, bias, columns * sizeof(float));
    rr_pages_free(RR_MEM_WORKSPACE, panels, (size_t)columns * K * sizeof(float));
    return ok;
}

static bool close_to(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= TOLERANCE * (1.0f + fabsf(b[i])))) return false; /* NaN too */
    return true;
}

/* NULL: agrees.  Otherwise the name of the kernel that does not. */
static const char *differing(const struct results *a, const struct results *b)
{
    if (!close_to(a->linear[0], b->linear[0], RR_COUNT(a->linear) * M * N)) return "linear";
    if (!close_to(a->attention, b->attention, RR_COUNT(a->attention))) return "attention";
    if (!close_to(a->norm, b->norm, RR_COUNT(a->norm))) return "layernorm";
    if (!close_to(a->rows[0], b->rows[0], RR_COUNT(a->rows) * K)) return "convert";
    return NULL;
}

static int self_check(const char **wrong, const struct rr_kern *level, const struct rr_kern *ref,
                      struct rr_error *err)
{
    struct data *d = rr_alloc(RR_MEM_WORKSPACE, 1, sizeof(*d));
    struct results *r = rr_alloc(RR_MEM_WORKSPACE, 2, sizeof(*r));
    int rc = RR_OK;

    *wrong = NULL;
    if (d && r) {
        make_data(d);
        if (compute(level, d, &r[0]) && compute(ref, d, &r[1]))
            *wrong = differing(&r[0], &r[1]);
        else
            rc = RR_ENOMEM;
    } else {
        rc = RR_ENOMEM;
    }
    if (rc) rr_fail(err, rc, "out of memory checking instruction set level %s", level->name);
    rr_free(r);
    rr_free(d);
    return rc;
}

static bool usable(const struct rr_kern *k, uint32_t flags)
{
    return (k->needs & flags) == k->needs;
}

static int not_available(const struct rr_kern *const *levels, uint32_t n_levels, uint32_t flags,
                         const char *name, struct rr_error *err)
{
    char list[200] = "auto";
    size_t len = strlen(list);
    const char *why = "is not known";

    for (uint32_t i = 0; i < n_levels; i++) {
        size_t add = strlen(levels[i]->name);

        if (strcmp(levels[i]->name, name) == 0) why = "is not offered by this processor";
        if (!usable(levels[i], flags) || len + 2 + add >= sizeof(list)) continue;
        memcpy(list + len, ", ", 2);
        memcpy(list + len + 2, levels[i]->name, add + 1);
        len += 2 + add;
    }
    return rr_fail(err, RR_ENOTSUP, "instruction set level '%s' %s; this machine has: %s", name,
                   why, list);
}

int rr_cpu_isa(const struct rr_kern **out, const struct rr_kern *const *levels, uint32_t n_levels,
               uint32_t flags, const char *name, struct rr_error *err)
{
    bool any = !name || strcmp(name, "auto") == 0;
    const char *wrong;
    int rc;

    *out = NULL;
    for (uint32_t i = n_levels; i-- > 0;) {
        if (!usable(levels[i], flags) || (!any && strcmp(levels[i]->name, name) != 0)) continue;
        *out = levels[i];
        if (i == 0) return RR_OK; /* the reference is what the others are checked against */
        rc = self_check(&wrong, levels[i], levels[0], err);
        if (!rc && !wrong) return RR_OK;
        *out = NULL;
        if (rc) return rc;
        if (!any)
            return rr_fail(err, RR_EDEVICE,
                           "instruction set level %s computes wrong results on this processor "
                           "(%s differs from the reference)", name, wrong);
        rr_log(RR_WARN, "instruction set level %s computes wrong results on this processor (%s "
               "differs from the reference) and is not used", levels[i]->name, wrong);
    }
    return not_available(levels, n_levels, flags, name ? name : "auto", err);
}
