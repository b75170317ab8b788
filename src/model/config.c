/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - see config.h.  Layer: model (L4). */
#include "model/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "model/arch.h"

static const struct {
    const char *name;
    enum rr_act act;
} activations[] = {
    { "gelu", RR_ACT_GELU },
    { "gelu_python", RR_ACT_GELU }, /* the same function, written out */
    { "relu", RR_ACT_RELU },
    { "silu", RR_ACT_SILU },
    { "swish", RR_ACT_SILU },
    { "gelu_pytorch_tanh", RR_ACT_GELU_TANH },
    { "gelu_new", RR_ACT_GELU_TANH },
    { "tanh", RR_ACT_TANH },
};

static int fail_architecture(const char *where, struct rr_text found, struct rr_error *err)
{
    char list[640] = "";
    size_t len = 0;

    for (const struct rr_arch *a = rr_archs; a->name && len < sizeof(list); a++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? ", " : "", a->name);
    return rr_fail(err, RR_ENOTSUP, "%s: architectures[0] is \"%.60s\", supported are %s", where,
                   found.data, list);
}

static int read_architecture(struct rr_model_config *c, const struct rr_arch **arch,
                             const json_t *root, const char *where, struct rr_error *err)
{
    const json_t *list = json_object_get(root, "architectures");
    const json_t *first = json_array_get(list, 0);
    struct rr_text found = { json_string_value(first), json_string_length(first) };

    if (!list || json_is_null(list))
        return rr_fail(err, RR_EFORMAT,
                       "%s: architectures is missing, expected the name of a "
                       "sequence classification network",
                       where);
    if (!json_is_string(first))
        return rr_fail(
            err, RR_EFORMAT, "%s: architectures is %s, expected an array that begins with a string",
            where, json_is_array(list) ? "without a string at its start" : rr_json_type_name(list));
    *arch = rr_arch_find(found.data, found.len);
    if (!*arch) return fail_architecture(where, found, err);
    memcpy(c->architecture, found.data, found.len + 1);
    c->family = (*arch)->family;
    c->pad_id = (*arch)->pad_id;
    return RR_OK;
}

int rr_config_need_u32(const json_t *root, const char *where, const char *key, uint32_t max,
                       uint32_t *out, struct rr_error *err)
{
    const json_t *v = json_object_get(root, key);

    if (!v || json_is_null(v))
        return rr_fail(err, RR_EFORMAT, "%s: %s is missing, expected 1 to %" PRIu32, where, key,
                       max);
    return rr_json_u32(root, where, key, 1, max, out, err);
}

int rr_config_sizes(struct rr_model_config *c, const json_t *root, const char *where,
                    const char *eps_key, struct rr_error *err)
{
    const uint32_t width = RR_CONFIG_MAX_WIDTH, rows = RR_CONFIG_MAX_ROWS;
    int rc = rr_config_need_u32(root, where, "vocab_size", rows, &c->vocab, err);

    if (!rc) rc = rr_config_need_u32(root, where, "hidden_size", width, &c->hidden, err);
    if (!rc)
        rc = rr_config_need_u32(root, where, "num_hidden_layers", RR_MAX_LAYERS, &c->layers, err);
    if (!rc) rc = rr_config_need_u32(root, where, "num_attention_heads", width, &c->heads, err);
    if (!rc)
        rc = rr_config_need_u32(root, where, "intermediate_size", width, &c->intermediate, err);
    if (!rc)
        rc = rr_config_need_u32(root, where, "max_position_embeddings", rows, &c->positions, err);
    if (!rc) rc = rr_json_u32(root, where, "pad_token_id", 0, rows, &c->pad_id, err);
    if (!rc) rc = rr_json_f32(root, where, eps_key, &c->norm_eps, err);
    if (rc) return rc;

    if (c->hidden < c->heads) return rr_config_even_heads(c, where, err); /* a head of no width */
    c->max_length = c->positions;
    c->kv_heads = c->heads;
    c->head_dim = c->hidden / c->heads;
    if (!(c->norm_eps > 0 && c->norm_eps <= 1))
        return rr_fail(err, RR_EFORMAT, "%s: %s is %g, expected more than 0 and at most 1", where,
                       eps_key, (double)c->norm_eps);
    if (c->pad_id >= c->vocab)
        return rr_fail(err, RR_EFORMAT,
                       "%s: pad_token_id is %" PRIu32 ", expected less than vocab_size, %" PRIu32,
                       where, c->pad_id, c->vocab);
    return RR_OK;
}

int rr_config_even_heads(const struct rr_model_config *c, const char *where, struct rr_error *err)
{
    if (c->hidden % c->heads == 0) return RR_OK;
    return rr_fail(err, RR_EFORMAT,
                   "%s: hidden_size is %" PRIu32 ", expected a multiple of "
                   "num_attention_heads, %" PRIu32,
                   where, c->hidden, c->heads);
}

int rr_config_act(enum rr_act *out, const json_t *root, const char *where, const char *key,
                  const char *fallback, unsigned allowed, struct rr_error *err)
{
    struct rr_text name = { fallback, strlen(fallback) };
    char list[128] = "";
    size_t len = 0;
    int rc = rr_json_text(root, where, key, &name, err);

    if (rc) return rc;
    for (size_t i = 0; i < RR_COUNT(activations); i++) {
        if (!(allowed & 1u << activations[i].act)) continue;
        *out = activations[i].act;
        if (rr_text_is(name, activations[i].name)) return RR_OK;
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? ", " : "",
                                activations[i].name);
    }
    return rr_fail(err, RR_ENOTSUP, "%s: %s is \"%.60s\", supported are %s", where, key, name.data,
                   list);
}

int rr_config_off(const json_t *root, const char *where, const char *key, struct rr_error *err)
{
    bool on = false;
    int rc = rr_json_bool(root, where, key, &on, err);

    if (rc || !on) return rc;
    return rr_fail(err, RR_ENOTSUP, "%s: %s is true, supported is false", where, key);
}

/* One label: its logit is the score.  num_labels beats id2label and neither means 2, as in the
 * reference. */
static int check_labels(const json_t *root, const char *where, struct rr_error *err)
{
    const json_t *map = json_object_get(root, "id2label");
    const json_t *number = json_object_get(root, "num_labels");
    uint32_t n = 2;
    int rc = rr_json_u32(root, where, "num_labels", 0, UINT32_MAX, &n, err);

    if (rc) return rc;
    if (map && !json_is_null(map) && !json_is_object(map))
        return rr_fail(err, RR_EFORMAT, "%s: id2label is %s, expected an object", where,
                       rr_json_type_name(map));
    if (json_is_object(map) && (!number || json_is_null(number))) {
        if (json_object_size(map) == 1) return RR_OK;
        return rr_fail(err, RR_ENOTSUP,
                       "%s: id2label has %zu labels, expected 1: a classifier of "
                       "several labels does not give one relevance score",
                       where, json_object_size(map));
    }
    if (n == 1) return RR_OK;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: num_labels is %" PRIu32 "%s, expected 1: a classifier of "
                   "several labels does not give one relevance score",
                   where, n, number ? "" : " by default, without id2label");
}

int rr_config_parse(struct rr_model_config *out, struct rr_text json, const char *where,
                    struct rr_error *err)
{
    const struct rr_arch *arch = NULL;
    json_t *root = NULL;
    int rc;

    memset(out, 0, sizeof(*out));
    rc = rr_json_parse(&root, json, 0, RR_JSON_DUP_LAST, err); /* as the reference reads it */
    if (rc) {
        rr_fail_prefix(err, "%s", where);
        return rc;
    }
    if (!json_is_object(root))
        rc = rr_fail(err, RR_EFORMAT, "%s: the file is %s, expected an object", where,
                     rr_json_type_name(root));
    if (!rc) rc = read_architecture(out, &arch, root, where, err);
    if (!rc && arch->ending == RR_END_HEAD) rc = check_labels(root, where, err);
    if (!rc) rc = arch->read(out, root, where, err);
    json_decref(root);
    return rc;
}
