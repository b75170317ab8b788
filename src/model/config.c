/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - see config.h.  Layer: model (L4). */
#include "model/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"

/* Ceilings far above every known model of these families: they keep products of sizes small. */
#define MAX_WIDTH (1u << 16)
#define MAX_LAYERS 1024u
#define MAX_ROWS (1u << 24)

static const struct {
    const char *name;
    enum rr_family family;
    uint32_t pad_id; /* of the reference's configuration class */
} architectures[] = {
    { "XLMRobertaForSequenceClassification", RR_FAMILY_ROBERTA, 1 },
    { "RobertaForSequenceClassification", RR_FAMILY_ROBERTA, 1 },
    { "CamembertForSequenceClassification", RR_FAMILY_ROBERTA, 1 }, /* the same network */
    { "BertForSequenceClassification", RR_FAMILY_BERT, 0 },
};

static const struct {
    const char *name;
    enum rr_act act;
} activations[] = {
    { "gelu", RR_ACT_GELU },
    { "gelu_python", RR_ACT_GELU }, /* the same function, written out */
    { "relu", RR_ACT_RELU },
};

static int fail_architecture(const char *where, struct rr_text found, struct rr_error *err)
{
    char list[256] = "";
    size_t len = 0;

    for (size_t i = 0; i < RR_COUNT(architectures); i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
                                architectures[i].name);
    return rr_fail(err, RR_ENOTSUP, "%s: architectures[0] is \"%.60s\", supported are %s", where,
                   found.data, list);
}

static int read_architecture(struct rr_model_config *c, const json_t *root, const char *where,
                             struct rr_error *err)
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
    for (size_t i = 0; i < RR_COUNT(architectures); i++) {
        if (!rr_text_is(found, architectures[i].name)) continue;
        memcpy(c->architecture, found.data, found.len + 1);
        c->family = architectures[i].family;
        c->pad_id = architectures[i].pad_id;
        return RR_OK;
    }
    return fail_architecture(where, found, err);
}

/* A size that the reference could default, too; a file without it is more likely damaged. */
static int need_u32(const json_t *root, const char *where, const char *key, uint32_t max,
                    uint32_t *out, struct rr_error *err)
{
    const json_t *v = json_object_get(root, key);

    if (!v || json_is_null(v))
        return rr_fail(err, RR_EFORMAT, "%s: %s is missing, expected 1 to %" PRIu32, where, key,
                       max);
    return rr_json_u32(root, where, key, 1, max, out, err);
}

static int read_sizes(struct rr_model_config *c, const json_t *root, const char *where,
                      struct rr_error *err)
{
    int rc;

    c->types = 2; /* the reference's defaults */
    c->norm_eps = 1e-12f;
    rc = need_u32(root, where, "vocab_size", MAX_ROWS, &c->vocab, err);
    if (!rc) rc = need_u32(root, where, "hidden_size", MAX_WIDTH, &c->hidden, err);
    if (!rc) rc = need_u32(root, where, "num_hidden_layers", MAX_LAYERS, &c->layers, err);
    if (!rc) rc = need_u32(root, where, "num_attention_heads", MAX_WIDTH, &c->heads, err);
    if (!rc) rc = need_u32(root, where, "intermediate_size", MAX_WIDTH, &c->intermediate, err);
    if (!rc) rc = need_u32(root, where, "max_position_embeddings", MAX_ROWS, &c->positions, err);
    if (!rc) rc = rr_json_u32(root, where, "type_vocab_size", 1, MAX_ROWS, &c->types, err);
    if (!rc) rc = rr_json_u32(root, where, "pad_token_id", 0, MAX_ROWS, &c->pad_id, err);
    if (!rc) rc = rr_json_f32(root, where, "layer_norm_eps", &c->norm_eps, err);
    if (rc) return rc;

    if (c->hidden % c->heads != 0)
        return rr_fail(err, RR_EFORMAT,
                       "%s: hidden_size is %" PRIu32 ", expected a multiple of "
                       "num_attention_heads, %" PRIu32,
                       where, c->hidden, c->heads);
    if (!(c->norm_eps >= 0 && c->norm_eps <= 1))
        return rr_fail(err, RR_EFORMAT, "%s: layer_norm_eps is %g, expected 0 to 1", where,
                       (double)c->norm_eps);
    if (c->pad_id >= c->vocab)
        return rr_fail(err, RR_EFORMAT,
                       "%s: pad_token_id is %" PRIu32 ", expected less than vocab_size, %" PRIu32,
                       where, c->pad_id, c->vocab);
    return RR_OK;
}

/* The RoBERTa family counts positions from pad_token_id + 1, so that its table is longer than the
 * longest sequence. */
static int derive_max_length(struct rr_model_config *c, const char *where, struct rr_error *err)
{
    uint32_t reserved = c->family == RR_FAMILY_ROBERTA ? c->pad_id + 1 : 0;

    if (c->positions <= reserved)
        return rr_fail(err, RR_EFORMAT,
                       "%s: max_position_embeddings is %" PRIu32 ", expected more "
                       "than pad_token_id + 1, %" PRIu32,
                       where, c->positions, reserved);
    c->max_length = c->positions - reserved;
    return RR_OK;
}

static int read_activation(struct rr_model_config *c, const json_t *root, const char *where,
                           struct rr_error *err)
{
    struct rr_text name = { "gelu", 4 };
    int rc = rr_json_text(root, where, "hidden_act", &name, err);

    if (rc) return rc;
    for (size_t i = 0; i < RR_COUNT(activations); i++) {
        if (!rr_text_is(name, activations[i].name)) continue;
        c->act = activations[i].act;
        return RR_OK;
    }
    return rr_fail(err, RR_ENOTSUP,
                   "%s: hidden_act is \"%.60s\", supported are gelu, gelu_python, relu", where,
                   name.data);
}

/* One label: its logit is the score.  id2label beats num_labels and neither means 2, as in the
 * reference. */
static int check_labels(const json_t *root, const char *where, struct rr_error *err)
{
    const json_t *map = json_object_get(root, "id2label");
    uint32_t n = 2;
    int rc;

    if (map && !json_is_null(map)) {
        if (!json_is_object(map))
            return rr_fail(err, RR_EFORMAT, "%s: id2label is %s, expected an object", where,
                           rr_json_type_name(map));
        if (json_object_size(map) == 1) return RR_OK;
        return rr_fail(err, RR_ENOTSUP,
                       "%s: id2label has %zu labels, expected 1: a classifier of "
                       "several labels does not give one relevance score",
                       where, json_object_size(map));
    }
    rc = rr_json_u32(root, where, "num_labels", 0, UINT32_MAX, &n, err);
    if (rc || n == 1) return rc;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: num_labels is %" PRIu32 "%s, expected 1: a classifier of "
                   "several labels does not give one relevance score",
                   where, n,
                   json_object_get(root, "num_labels") ? "" : " by default, without id2label");
}

/* Variants of the networks that would need other operations. */
static int check_variants(const json_t *root, const char *where, struct rr_error *err)
{
    static const char *const off[] = { "is_decoder", "add_cross_attention" };
    struct rr_text position = { "absolute", 8 };
    int rc = rr_json_text(root, where, "position_embedding_type", &position, err);

    if (rc) return rc;
    if (!rr_text_is(position, "absolute"))
        return rr_fail(err, RR_ENOTSUP,
                       "%s: position_embedding_type is \"%.60s\", supported is absolute", where,
                       position.data);
    for (size_t i = 0; i < RR_COUNT(off); i++) {
        bool on = false;

        rc = rr_json_bool(root, where, off[i], &on, err);
        if (rc) return rc;
        if (on)
            return rr_fail(err, RR_ENOTSUP, "%s: %s is true, supported is false", where, off[i]);
    }
    return RR_OK;
}

int rr_config_parse(struct rr_model_config *out, struct rr_text json, const char *where,
                    struct rr_error *err)
{
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
    if (!rc) rc = read_architecture(out, root, where, err);
    if (!rc) rc = check_labels(root, where, err);
    if (!rc) rc = check_variants(root, where, err);
    if (!rc) rc = read_sizes(out, root, where, err);
    if (!rc) rc = derive_max_length(out, where, err);
    if (!rc) rc = read_activation(out, root, where, err);
    json_decref(root);
    return rc;
}
