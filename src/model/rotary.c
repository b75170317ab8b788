/* SPDX-License-Identifier: Apache-2.0 */
/* rotary.c - see rotary.h.  Layer: model (L4). */
#include "model/rotary.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"

/* A file of today says rope_parameters (by kind of layer, where there are several), older ones
 * rope_scaling; both may be null. */
static int check_kind(const json_t *scope, const char *where, struct rr_error *err)
{
    static const char *const keys[] = { "rope_type", "type" };

    for (size_t i = 0; i < RR_COUNT(keys); i++) {
        struct rr_text kind = { "default", 7 };
        int rc = rr_json_text(scope, where, keys[i], &kind, err);

        if (rc) return rc;
        if (!rr_text_is(kind, "default"))
            return rr_fail(err, RR_ENOTSUP,
                           "%s: rotary positions of type \"%.60s\", supported is default", where,
                           kind.data);
    }
    return RR_OK;
}

int rr_rotary_read(float *theta, const json_t *root, const char *where, const char *kind,
                   const char *key, struct rr_error *err)
{
    const json_t *scaling = json_object_get(root, "rope_scaling");
    const json_t *scope = json_object_get(root, "rope_parameters");
    int rc = RR_OK;

    if (json_is_object(scope) && kind && json_is_object(json_object_get(scope, kind)))
        scope = json_object_get(scope, kind);
    if (!kind && json_object_size(scaling)) scope = NULL; /* not read beside it */
    if (json_is_object(scaling)) rc = check_kind(scaling, where, err);
    if (!rc) rc = rr_json_f32(root, where, key, theta, err);
    if (!rc && json_is_object(scope)) {
        rc = check_kind(scope, where, err);
        if (!rc) rc = rr_json_f32(scope, where, "rope_theta", theta, err);
    }
    if (!rc && json_is_object(scaling)) /* wins, as in the reference */
        rc = rr_json_f32(scaling, where, "rope_theta", theta, err);
    if (!rc && !(*theta >= 1.0f && *theta <= 1e12f))
        return rr_fail(err, RR_EFORMAT, "%s: %s is %g, expected 1 to 1e12", where, key,
                       (double)*theta);
    return rc;
}

int rr_rotary_read_ntk(struct rr_model_config *c, const json_t *root, const char *where,
                       struct rr_error *err)
{
    const json_t *scaling = json_object_get(root, "rope_scaling");
    struct rr_text type = { "ntk", 3 };
    float factor = 1.0f;
    int rc;

    c->rotary_divisor = 1.0f;
    if (!json_is_object(scaling))
        return rr_rotary_read(&c->theta, root, where, NULL, "rope_theta", err);
    rc = rr_json_f32(root, where, "rope_theta", &c->theta, err);
    if (!rc) rc = rr_json_text(scaling, where, "type", &type, err);
    if (!rc) rc = rr_json_f32(scaling, where, "factor", &factor, err);
    if (rc) return rc;
    if (!rr_text_is(type, "ntk") || json_is_number(json_object_get(scaling, "mixed_b")))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: rope_scaling of type \"%.40s\"%s, supported is ntk without mixed_b",
                       where, type.data,
                       json_is_number(json_object_get(scaling, "mixed_b")) ? " with mixed_b" : "");
    if (!(factor >= 1.0f && factor <= 1e4f && c->theta >= 1.0f && c->theta <= 1e12f))
        return rr_fail(
            err, RR_EFORMAT,
            "%s: rope_theta is %g and rope_scaling.factor %g, expected 1 to 1e12 and 1 to "
            "1e4",
            where, (double)c->theta, (double)factor);
    c->theta *= factor;
    c->rotary_divisor = (float)pow((double)factor, 2.0 / c->head_dim);
    return RR_OK;
}

int rr_rotary_tensor(struct rr_weights *w, float theta, uint32_t head_dim, float divisor,
                     uint32_t *index, struct rr_error *err)
{
    float *f;
    int rc = rr_weights_make(w, "rotary frequencies", 0, head_dim / 2, index, &f, err);

    for (uint32_t j = 0; !rc && j < head_dim / 2; j++)
        f[j] = 1.0f / powf(theta, (float)(2 * j) / (float)head_dim) / (divisor == 0 ? 1 : divisor);
    return rc;
}
