/* SPDX-License-Identifier: Apache-2.0 */
/* sentence.c - see sentence.h.  Layer: model (L4). */
#include "model/sentence.h"

#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"

#define MAX_FILE (4u << 20) /* bytes */
#define MAX_TOKENS 131072

static int load(json_t **root, char path[PATH_MAX], const char *folder, const char *name,
                struct rr_error *err)
{
    return rr_json_read_beside(root, path, folder, name, MAX_FILE, RR_JSON_DUP_LAST, err);
}

/* A Python name, "torch.nn.modules.linear.Identity", of which the last part counts. */
static int set_activation(struct rr_sentence *out, const json_t *obj, const char *path,
                          const char *key, bool *known, struct rr_error *err)
{
    struct rr_text name = { NULL, 0 };
    size_t at;
    int rc = rr_json_text(obj, path, key, &name, err);

    if (rc || !name.data || *known) return rc;
    for (at = name.len; at > 0 && name.data[at - 1] != '.'; at--) {
    }
    out->identity = strcmp(name.data + at, "Identity") == 0;
    *known = true;
    if (out->identity || strcmp(name.data + at, "Sigmoid") == 0) return RR_OK;
    return rr_fail(err, RR_ENOTSUP, "%s: %s is \"%.80s\", supported are Identity and Sigmoid", path,
                   key, name.data);
}

/* sentence-transformers puts it before the first text of a pair. */
static int read_prompt(struct rr_sentence *out, const json_t *root, const char *path,
                       struct rr_error *err)
{
    const json_t *name = json_object_get(root, "default_prompt_name"), *prompt;
    struct rr_text text = { "", 0 };

    if (!name || json_is_null(name)) return RR_OK;
    prompt = json_is_string(name)
                 ? json_object_get(json_object_get(root, "prompts"), json_string_value(name))
                 : NULL;
    if (!json_is_string(prompt))
        return rr_fail(err, RR_EFORMAT,
                       "%s: default_prompt_name names no string of prompts, expected one", path);
    text = (struct rr_text){ json_string_value(prompt), json_string_length(prompt) };
    if (text.len >= sizeof(out->prompt) || memchr(text.data, 0, text.len))
        return rr_fail(err, RR_ETOOBIG,
                       "%s: the default prompt has %zu bytes, expected at most %zu without NUL",
                       path, text.len, sizeof(out->prompt) - 1);
    memcpy(out->prompt, text.data, text.len + 1);
    return RR_OK;
}

static int read_own(struct rr_sentence *out, const char *folder, bool *known, struct rr_error *err)
{
    char path[PATH_MAX];
    json_t *root;
    int rc = load(&root, path, folder, "config_sentence_transformers.json", err);

    if (!rc && root) {
        rc = set_activation(out, root, path, "activation_fn", known, err);
        if (!rc) rc = read_prompt(out, root, path, err);
    }
    json_decref(root);
    return rc;
}

static int read_config(struct rr_sentence *out, const char *folder, bool *known,
                       struct rr_error *err)
{
    char path[PATH_MAX];
    json_t *root, *inner;
    int rc = load(&root, path, folder, "config.json", err);

    if (!rc && root) {
        inner = json_object_get(root, "sentence_transformers");
        if (json_is_object(inner))
            rc = set_activation(out, inner, path, "activation_fn", known, err);
        if (!rc)
            rc =
                set_activation(out, root, path, "sbert_ce_default_activation_function", known, err);
    }
    json_decref(root);
    return rc;
}

/* How the tokenizer is called, of which the length is followed; what else would change tokens is
 * refused. */
static int read_call(struct rr_sentence *out, const json_t *kwargs, const char *path,
                     struct rr_error *err)
{
    const json_t *cut = json_object_get(kwargs, "truncation");
    const char *how = json_string_value(cut);
    bool special = true;
    int rc = rr_json_u32(kwargs, path, "max_length", 1, MAX_TOKENS, &out->max_length, err);

    if (!rc) rc = rr_json_bool(kwargs, path, "add_special_tokens", &special, err);
    if (!rc && !special)
        rc = rr_fail(err, RR_ENOTSUP,
                     "%s: processing_kwargs has add_special_tokens false, supported is true", path);
    if (rc || !cut || json_is_null(cut) || json_is_true(cut)) return rc;
    if (how && strcmp(how, "longest_first") == 0) return RR_OK;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: processing_kwargs has truncation %s%.40s%s, supported is longest_first",
                   path, how ? "\"" : "", how ? how : "false, or another type", how ? "\"" : "");
}

static int read_bert(struct rr_sentence *out, const json_t *root, const char *path,
                     struct rr_error *err)
{
    const json_t *calls = json_object_get(root, "processing_kwargs");
    int rc = rr_json_u32(root, path, "max_seq_length", 1, MAX_TOKENS, &out->max_length, err);

    if (!rc) rc = read_call(out, json_object_get(calls, "common"), path, err);
    return rc ? rc : read_call(out, json_object_get(calls, "text"), path, err);
}

int rr_sentence_read(struct rr_sentence *out, const char *folder, struct rr_error *err)
{
    char path[PATH_MAX];
    bool known = false;
    json_t *root;
    int rc;

    memset(out, 0, sizeof(*out));
    rc = read_own(out, folder, &known, err);
    if (!rc) rc = read_config(out, folder, &known, err);
    if (rc) return rc;
    rc = load(&root, path, folder, "sentence_bert_config.json", err);
    if (!rc && root) rc = read_bert(out, root, path, err);
    json_decref(root);
    return rc;
}
