/* SPDX-License-Identifier: Apache-2.0 */
/* drift.c - how far the logits of the two precisions may be apart: given, read, or measured.
 * Layer: engine (L5). */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/engine.h"

/* A bound from a few pairs needs room for the many; what it misses widens it while serving. */
#define MARGIN 3.0f
#define LEAST_DRIFT 1e-3f
#define MAX_REPORT (1u << 20)

/* Pairs of several languages and lengths, fitting and not. */
static const struct {
    const char *query, *document;
} samples[] = {
    { "capital of France", "Paris is the capital and largest city of France." },
    { "capital of France", "Bananas are rich in potassium." },
    { "Quelle est la capitale de la France ?", "Lyon est une ville du sud-est de la France." },
    { "comment renouveler un passeport",
      "La demande se fait en mairie, avec une photo récente, un "
      "justificatif de domicile et l'ancien titre. Comptez deux à six semaines." },
    { "how do I reset my password",
      "Open Settings, choose Account, then Reset password. A link is "
      "sent to the address you registered with; it is valid for one hour." },
    { "how do I reset my password", "Our offices are closed on public holidays." },
    { "Was kostet der Versand?", "Ab 50 Euro Bestellwert liefern wir kostenlos." },
    { "x", "y" },
};

/* One pair through one pass. */
static int score(struct rr_lane *lane, enum rr_pass pass, size_t i, float *logit,
                 struct rr_error *err)
{
    struct rr_engine *e = lane->engine;
    uint32_t max = e->info.max_length, dropped, cu[2] = { 0, 0 };
    const struct rr_text texts[2] = { rr_text(samples[i].query), rr_text(samples[i].document) };
    struct rr_sequences seqs;
    int32_t *query = e->probe_ids + 2 * (size_t)max; /* free since the probe was made */
    int rc = rr_pairing_ids(&e->pairing, e->tok, e->tokenize_scratch, texts, 0, max, query,
                            lane->ids, lane->types, &cu[1], &dropped, err);

    if (rc) return rc;
    seqs = (struct rr_sequences){ .n_tokens = cu[1],
                                  .n_sequences = 1,
                                  .ids = lane->ids,
                                  .types = lane->types,
                                  .cu_seqlens = cu };
    return rr_net_forward(&lane->nets[pass], &seqs, logit, err);
}

static int compare(struct rr_lane *lane, float *most, struct rr_error *err)
{
    float cheap, exact;
    size_t i;
    int rc;

    for (i = 0; i < RR_COUNT(samples); i++) {
        rc = score(lane, RR_PASS_MAIN, i, &cheap, err);
        if (!rc) rc = score(lane, RR_PASS_RESCORE, i, &exact, err);
        if (rc) return rc;
        if (!isfinite(cheap) || !isfinite(exact))
            return rr_fail(err, RR_ENONFINITE, "the model gave a score that is not a number");
        *most = fmaxf(*most, fabsf(cheap - exact));
    }
    return RR_OK;
}

static float bound_of(float most)
{
    return RR_MAX(MARGIN * most, LEAST_DRIFT);
}

/* The largest difference on any device that has two precisions. */
static int measure(struct rr_engine *e, float *drift, struct rr_error *err)
{
    float most = 0;
    uint32_t i;
    int rc = RR_OK;

    for (i = 0; i < e->n_devices && !rc; i++)
        if (e->lanes[i].dtype[RR_PASS_RESCORE][0]) rc = compare(&e->lanes[i], &most, err);
    if (rc) return rc;
    *drift = bound_of(most);
    rr_log(RR_INFO, "%s and %s differ by up to %g on %zu pairs: taking %g as the bound",
           e->info.dtype, e->info.rescore_dtype, (double)most, RR_COUNT(samples), (double)*drift);
    return RR_OK;
}

/* What a report says of what was measured; a member that is missing says nothing. */
static bool says_other(struct rr_text member, const char *value)
{
    return member.data && !rr_text_is(member, value);
}

/* Whether the report is of these files and this arithmetic, beside f32, on every device that
 * re-scores: differences of another precision are no bound for this one's, nor are those of another
 * version of the program, which may compute otherwise in the same one. */
static bool is_ours(const struct rr_engine *e, struct rr_text print, struct rr_text version,
                    struct rr_text dtype, struct rr_text isa)
{
    char ours[17];
    uint32_t i;

    snprintf(ours, sizeof(ours), "%016" PRIx64, e->info.fingerprint);
    if (print.data && !(version.data && rr_text_is(version, RR_VERSION))) return false;
    if (says_other(print, ours)) return false;
    for (i = 0; i < e->n_devices; i++) {
        const struct rr_lane *lane = &e->lanes[i];

        if (!lane->dtype[RR_PASS_RESCORE][0]) continue;
        if (says_other(dtype, lane->dtype[RR_PASS_MAIN]) || says_other(isa, lane->isa) ||
            (dtype.data && strcmp(lane->dtype[RR_PASS_RESCORE], "f32") != 0))
            return false;
    }
    return true;
}

/* "drift" of verify.json in the model folder, if there is one of what is computed here: a number of
 * at least 0. */
static int read_report(struct rr_engine *e, float *out, bool *found, struct rr_error *err)
{
    struct rr_text print = { NULL, 0 }, version = print, dtype = print, isa = print;
    char path[PATH_MAX];
    float drift = -1;
    json_t *root;
    int rc;

    *found = false;
    rc = rr_json_read_beside(&root, path, e->folder, "verify.json", MAX_REPORT, RR_JSON_DUP_REJECT,
                             err);
    if (rc || !root) return rc;
    rc = rr_json_f32(root, path, "drift", &drift, err);
    if (!rc) rc = rr_json_text(root, path, "fingerprint", &print, err);
    if (!rc) rc = rr_json_text(root, path, "version", &version, err);
    if (!rc) rc = rr_json_text(root, path, "dtype", &dtype, err);
    if (!rc) rc = rr_json_text(root, path, "isa", &isa, err);
    if (!rc) *found = drift >= 0 && is_ours(e, print, version, dtype, isa);
    if (!rc && drift >= 0 && !*found)
        rr_log(RR_WARN,
               "%s is of other files, another precision, other instructions or another version: "
               "its bound is not used; rerankd verify --write makes a new one",
               path);
    json_decref(root);
    if (*found) *out = drift;
    return rc;
}

int rr_drift_open(struct rr_engine *e, struct rr_error *err)
{
    float drift = e->option_drift;
    bool found = drift > 0;
    uint32_t i;
    int rc = RR_OK;

    if (!found) rc = read_report(e, &drift, &found, err);
    if (!rc && !found) rc = measure(e, &drift, err);
    for (i = 0; i < e->n_kinds && !rc; i++) e->kinds[i]->drift = drift;
    return rc;
}

int rr_drift_reserve(struct rr_lane *lane, struct rr_error *err)
{
    struct rr_engine *e = lane->engine;
    float most = 0;
    int rc;

    lane->drift = e->option_drift;
    if (lane->drift > 0) return RR_OK;
    pthread_mutex_lock(&e->tokenize_lock); /* whose scratch it takes */
    rc = compare(lane, &most, err);
    pthread_mutex_unlock(&e->tokenize_lock);
    if (!rc) lane->drift = bound_of(most);
    return rc;
}
