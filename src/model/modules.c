/* SPDX-License-Identifier: Apache-2.0 */
/* modules.c - see modules.h.  Layer: model (L4). */
#include "model/modules.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "model/config.h"
#include "model/export.h"
#include "model/layers.h"

#define MAX_FILE (1u << 20) /* bytes */
#define NORM_EPS 1e-5f      /* of torch.nn.LayerNorm */

struct reader {
    struct rr_modules *out;
    const char *folder;
    char where[PATH_MAX]; /* modules.json */
    uint32_t width;       /* of what the modules so far put out */
    bool pooled, scores;
    struct rr_words *words; /* of a causal network, with vocab tokens */
    uint32_t vocab;
    const char *to; /* folder of a copy */
    struct rr_error *err;
};

struct entry { /* of modules.json */
    size_t i;
    struct rr_text type, path;
    const char *name; /* last part of the type */
};

/* ---- files ---------------------------------------------------------------------------------- */

static int load(json_t **root, char path[PATH_MAX], const char *folder, const char *name,
                struct rr_error *err)
{
    *root = NULL;
    if (!rr_path_join(path, PATH_MAX, folder, name))
        return rr_fail(err, RR_EINVAL, "%s: the path is longer than %d bytes", folder, PATH_MAX);
    return rr_json_read(root, path, MAX_FILE, RR_JSON_DUP_LAST, err);
}

/* "sentence_transformers.base.modules.dense.Dense": the last part, whatever stands before it, which
 * has changed with versions. */
static const char *last_part(const char *dotted)
{
    const char *dot = strrchr(dotted, '.');

    return dot ? dot + 1 : dotted;
}

/* ---- the list ------------------------------------------------------------------------------- */

static int check_path(const struct reader *r, const struct entry *e)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    if (e->path.len > 0 && e->path.len < sizeof(r->out->list->path) &&
        strspn(e->path.data, allowed) == e->path.len)
        return RR_OK;
    return rr_fail(r->err, RR_EFORMAT,
                   "%s: [%zu].path is \"%.60s\", expected the name of a folder inside the model's "
                   "(letters, digits, - and _)",
                   r->where, e->i, e->path.data);
}

static int read_entry(struct entry *e, const struct reader *r, const json_t *list, size_t i)
{
    const json_t *v = json_array_get(list, i);
    int rc;

    *e = (struct entry){ .i = i, .type = { "", 0 }, .path = { "", 0 } };
    rc = rr_json_text(v, r->where, "type", &e->type, r->err);
    e->name = last_part(e->type.data);
    return rc ? rc : rr_json_text(v, r->where, "path", &e->path, r->err);
}

/* A list begins with the network itself, in the model's own folder. */
static int check_begin(const struct reader *r, const json_t *list)
{
    struct entry e;
    int rc;

    if (!json_is_array(list) || json_array_size(list) == 0)
        return rr_fail(r->err, RR_EFORMAT, "%s: the file is %s, expected a list of modules",
                       r->where, json_is_array(list) ? "empty" : rr_json_type_name(list));
    rc = read_entry(&e, r, list, 0);
    if (rc || (strcmp(e.name, "Transformer") == 0 && e.path.len == 0)) return rc;
    return rr_fail(r->err, RR_ENOTSUP,
                   "%s: begins with \"%.80s\" in \"%.60s\", expected a Transformer in \"\"",
                   r->where, e.type.data, e.path.data);
}

/* Reads modules.json and calls each for the modules behind the network. */
static int walk(struct reader *r, int (*each)(struct reader *, const struct entry *))
{
    json_t *list;
    int rc = load(&list, r->where, r->folder, "modules.json", r->err);

    if (!rc) rc = check_begin(r, list);
    for (size_t i = 1; !rc && i < json_array_size(list); i++) {
        struct entry e;

        rc = read_entry(&e, r, list, i);
        if (!rc) rc = check_path(r, &e);
        if (!rc) rc = each(r, &e);
    }
    json_decref(list);
    return rc;
}

/* config.json of the module. */
static int load_module(json_t **root, char where[PATH_MAX], const struct reader *r,
                       const struct entry *e)
{
    char folder[PATH_MAX];

    *root = NULL;
    if (!rr_path_join(folder, sizeof(folder), r->folder, e->path.data))
        return rr_fail(r->err, RR_EINVAL, "%s: the path is longer than %d bytes", r->folder,
                       PATH_MAX);
    return load(root, where, folder, "config.json", r->err);
}

/* ---- modules -------------------------------------------------------------------------------- */

static int check_text(const struct reader *r, const json_t *root, const char *where,
                      const char *key, const char *fallback, const char *expected)
{
    struct rr_text v = rr_text(fallback);
    int rc = rr_json_text(root, where, key, &v, r->err);

    if (rc || rr_text_is(v, expected)) return rc;
    return rr_fail(r->err, RR_ENOTSUP, "%s: %s is \"%.60s\", supported is \"%s\"", where, key,
                   v.data, expected);
}

/* pooling_mode, or the older flags, of which one must be set. */
static int read_mode(const struct reader *r, const json_t *root, const char *where,
                     struct rr_text *mode)
{
    static const char *const others[] = { "pooling_mode_max_tokens",
                                          "pooling_mode_mean_sqrt_len_tokens",
                                          "pooling_mode_weightedmean_tokens",
                                          "pooling_mode_lasttoken" };
    bool cls = false, mean = false, other = false;
    int rc;

    if (json_object_get(root, "pooling_mode"))
        return rr_json_text(root, where, "pooling_mode", mode, r->err);
    rc = rr_json_bool(root, where, "pooling_mode_cls_token", &cls, r->err);
    if (!rc) rc = rr_json_bool(root, where, "pooling_mode_mean_tokens", &mean, r->err);
    for (size_t i = 0; i < RR_COUNT(others) && !rc; i++) {
        bool on = false;

        rc = rr_json_bool(root, where, others[i], &on, r->err);
        other = other || on;
    }
    *mode = rr_text(other || (cls && mean) ? "another" : cls ? "cls" : "mean");
    return rc;
}

static int read_pooling(struct reader *r, const json_t *root, const char *where)
{
    struct rr_text mode = rr_text("mean");
    bool prompt = true;
    int rc = read_mode(r, root, where, &mode);

    if (!rc) rc = rr_json_bool(root, where, "include_prompt", &prompt, r->err);
    if (rc) return rc;
    if (r->pooled || r->out->n)
        return rr_fail(r->err, RR_ENOTSUP, "%s: pooling comes twice, or late, in modules.json",
                       where);
    r->pooled = true;
    r->out->skips_prompt = !prompt;
    r->out->pool = rr_text_is(mode, "mean") ? RR_OP_MEAN : RR_OP_FIRST;
    if (rr_text_is(mode, "mean") || rr_text_is(mode, "cls")) return RR_OK;
    return rr_fail(r->err, RR_ENOTSUP, "%s: pooling_mode is \"%.40s\", supported are cls and mean",
                   where, mode.data);
}

static int read_act(struct reader *r, const json_t *root, const char *where, enum rr_act *act)
{
    static const struct {
        const char *name;
        enum rr_act act;
    } known[] = {
        { "torch.nn.modules.linear.Identity", RR_ACT_NONE },
        { "torch.nn.modules.activation.GELU", RR_ACT_GELU },
        { "torch.nn.modules.activation.Tanh", RR_ACT_TANH },
        { "torch.nn.modules.activation.ReLU", RR_ACT_RELU },
    };
    struct rr_text name = rr_text("torch.nn.modules.activation.Tanh"); /* the reference's default */
    int rc = rr_json_text(root, where, "activation_function", &name, r->err);

    if (rc) return rc;
    for (size_t i = 0; i < RR_COUNT(known); i++) {
        *act = known[i].act;
        if (rr_text_is(name, known[i].name)) return RR_OK;
    }
    return rr_fail(r->err, RR_ENOTSUP,
                   "%s: activation_function is \"%.80s\", supported are torch's Identity, GELU, "
                   "Tanh and ReLU",
                   where, name.data);
}

/* What a module takes in must be what the one before it puts out. */
static int check_width(const struct reader *r, const char *where, const char *key, uint32_t found)
{
    if (found == r->width) return RR_OK;
    return rr_fail(r->err, RR_EFORMAT,
                   "%s: %s is %" PRIu32 ", expected %" PRIu32 ", the width of what comes before it",
                   where, key, found, r->width);
}

static int read_dense(struct reader *r, const json_t *root, const char *where, struct rr_module *m)
{
    struct rr_text name = { NULL, 0 };
    uint32_t max = RR_CONFIG_MAX_WIDTH;
    int rc = rr_config_need_u32(root, where, "in_features", max, &m->in, r->err);

    m->bias = true;
    if (!rc) rc = rr_config_need_u32(root, where, "out_features", max, &m->out, r->err);
    if (!rc) rc = rr_json_bool(root, where, "bias", &m->bias, r->err);
    if (!rc) rc = rr_json_bool(root, where, "use_residual", &m->residual, r->err);
    if (!rc) rc = read_act(r, root, where, &m->act);
    if (!rc) rc = check_width(r, where, "in_features", m->in);
    if (!rc)
        rc = check_text(r, root, where, "module_input_name", "sentence_embedding",
                        "sentence_embedding");
    if (!rc) rc = rr_json_text(root, where, "module_output_name", &name, r->err);
    if (rc) return rc;
    r->scores = name.data && rr_text_is(name, "scores");
    if (r->scores && m->out != 1)
        return rr_fail(r->err, RR_ENOTSUP,
                       "%s: out_features is %" PRIu32 ", expected 1: a classifier of several "
                       "labels does not give one relevance score",
                       where, m->out);
    return r->scores ? RR_OK
                     : check_text(r, root, where, "module_output_name", "sentence_embedding",
                                  "sentence_embedding");
}

static int read_norm(struct reader *r, const json_t *root, const char *where, struct rr_module *m)
{
    int rc = rr_config_need_u32(root, where, "dimension", RR_CONFIG_MAX_WIDTH, &m->in, r->err);

    m->norm = m->bias = true;
    m->out = m->in;
    return rc ? rc : check_width(r, where, "dimension", m->in);
}

static int read_layer(struct reader *r, const json_t *root, const char *where,
                      const struct entry *e)
{
    struct rr_module *m = &r->out->list[r->out->n];
    int rc;

    if (!r->pooled)
        return rr_fail(r->err, RR_ENOTSUP, "%s: a %s without a pooling before it", where, e->name);
    if (r->out->n == RR_MODULES_MAX)
        return rr_fail(r->err, RR_ETOOBIG, "%s: more than %d layers, expected at most so many",
                       r->where, RR_MODULES_MAX);
    memset(m, 0, sizeof(*m));
    memcpy(m->path, e->path.data, e->path.len + 1);
    rc = strcmp(e->name, "Dense") == 0 ? read_dense(r, root, where, m)
                                       : read_norm(r, root, where, m);
    r->width = m->out;
    r->out->n++;
    return rc;
}

static int read_module(struct reader *r, const struct entry *e)
{
    char where[PATH_MAX];
    json_t *root;
    int rc;

    if (strcmp(e->name, "Dropout") == 0) return RR_OK; /* does nothing but in training */
    if (r->scores)
        return rr_fail(r->err, RR_ENOTSUP, "%s: %.40s comes after the scores, expected nothing",
                       r->where, e->name);
    if (strcmp(e->name, "Pooling") && strcmp(e->name, "Dense") && strcmp(e->name, "LayerNorm"))
        return rr_fail(r->err, RR_ENOTSUP,
                       "%s: [%zu].type is \"%.80s\", supported are Pooling, Dense, LayerNorm and "
                       "Dropout",
                       r->where, e->i, e->type.data);
    rc = load_module(&root, where, r, e);
    if (!rc)
        rc = strcmp(e->name, "Pooling") == 0 ? read_pooling(r, root, where)
                                             : read_layer(r, root, where, e);
    json_decref(root);
    return rc;
}

bool rr_modules_listed(const char *folder)
{
    char path[PATH_MAX];

    return rr_path_join(path, sizeof(path), folder, "modules.json") && rr_file_exists(path);
}

int rr_modules_read(struct rr_modules *out, const char *folder, uint32_t hidden,
                    struct rr_error *err)
{
    struct reader r = { .out = out, .folder = folder, .width = hidden, .err = err };
    int rc;

    memset(out, 0, sizeof(*out));
    rc = walk(&r, read_module);
    if (rc || r.scores) return rc;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: no module makes scores, expected a Dense with module_output_name "
                   "\"scores\" at the end: this is an embedding model, not a reranker",
                   r.where);
}

/* ---- a causal network's tokens -------------------------------------------------------------- */

/* *id stays as it is where there is none. */
static int read_token(const struct reader *r, const json_t *root, const char *where,
                      const char *key, int32_t *id)
{
    uint32_t v = UINT32_MAX;
    int rc = rr_json_u32(root, where, key, 0, r->vocab - 1, &v, r->err);

    if (!rc && v != UINT32_MAX) *id = (int32_t)v; /* vocabularies are far smaller */
    return rc;
}

static int read_logit_score(const struct reader *r, const json_t *root, const char *where)
{
    struct rr_words *out = r->words;
    int rc = read_token(r, root, where, "true_token_id", &out->yes);

    if (!rc) rc = read_token(r, root, where, "false_token_id", &out->no);
    if (!rc) rc = check_text(r, root, where, "module_input_name", "causal_logits", "causal_logits");
    if (rc) return rc;
    if (out->yes < 0)
        return rr_fail(r->err, RR_EFORMAT,
                       "%s: true_token_id is missing, expected a token's id, 0 to %" PRIu32, where,
                       r->vocab - 1);
    if (out->yes == out->no)
        return rr_fail(r->err, RR_EFORMAT,
                       "%s: false_token_id is %" PRId32 ", as true_token_id is, expected another "
                       "token or null: every score would be the same",
                       where, out->no);
    out->given = true;
    return RR_OK;
}

static int read_word_module(struct reader *r, const struct entry *e)
{
    char where[PATH_MAX];
    json_t *root;
    int rc;

    if (strcmp(e->name, "Dropout") == 0) return RR_OK;
    if (r->words->given || strcmp(e->name, "LogitScore"))
        return rr_fail(r->err, RR_ENOTSUP,
                       "%s: [%zu].type is \"%.80s\", expected one LogitScore behind a causal "
                       "network: an embedding model is no reranker",
                       r->where, e->i, e->type.data);
    rc = load_module(&root, where, r, e);
    if (!rc) rc = read_logit_score(r, root, where);
    json_decref(root);
    return rc;
}

int rr_modules_words(struct rr_words *out, const char *folder, uint32_t vocab, struct rr_error *err)
{
    struct reader r = { .words = out, .vocab = vocab, .folder = folder, .err = err };
    int rc;

    *out = (struct rr_words){ .yes = -1, .no = -1 };
    if (!rr_modules_listed(folder)) return RR_OK;
    rc = walk(&r, read_word_module);
    if (rc || out->given) return rc;
    return rr_fail(err, RR_ENOTSUP,
                   "%s: no module makes scores, expected a LogitScore behind a causal network",
                   r.where);
}

/* ---- copies --------------------------------------------------------------------------------- */

static const char *const module_files[] = { "config.json", "model.safetensors" };

static int copy_module(struct reader *r, const struct entry *e)
{
    char source[PATH_MAX], out[PATH_MAX];
    int rc = RR_OK;

    if (!rr_path_join(source, sizeof(source), r->folder, e->path.data) ||
        !rr_path_join(out, sizeof(out), r->to, e->path.data))
        return rr_fail(r->err, RR_EINVAL, "%s: the path is longer than %d bytes", r->to, PATH_MAX);
    if (mkdir(out, 0777) && errno != EEXIST)
        return rr_fail(r->err, RR_EIO, "%s: cannot create a folder: %s", out, strerror(errno));
    for (size_t k = 0; k < RR_COUNT(module_files) && !rc; k++)
        rc = rr_export_copy(source, out, module_files[k], r->err);
    return rc;
}

int rr_modules_copy(const char *from, const char *to, struct rr_error *err)
{
    struct reader r = { .folder = from, .to = to, .err = err };

    return walk(&r, copy_module);
}

/* ---- the network ---------------------------------------------------------------------------- */

struct dense {
    struct rr_weight linear;
    struct rr_weight residual;
};

#define ROW RR_WEIGHT_ROW

static const struct rr_weight_row dense_rows[] = {
    ROW(dense, linear.weight, "linear.weight", RR_DIM_MODULE_OUT, RR_DIM_MODULE_IN),
    ROW(dense, linear.bias, "linear.bias", RR_DIM_MODULE_OUT),
};
static const struct rr_weight_row residual_rows[] = {
    ROW(dense, residual.weight, "residual.weight", RR_DIM_MODULE_OUT, RR_DIM_MODULE_IN),
};
static const struct rr_weight_row norm_rows[] = {
    ROW(rr_norm, gamma, "norm.weight", RR_DIM_MODULE_OUT),
    ROW(rr_norm, beta, "norm.bias", RR_DIM_MODULE_OUT),
};

/* act(W x + b), and x or R x besides where the module asks for it. */
static int add_dense(struct rr_weights *w, const struct rr_module *m, const char *scope, uint32_t x,
                     uint32_t y, struct rr_error *err)
{
    struct dense d = { .linear.bias = RR_NONE, .residual.bias = RR_NONE };
    uint32_t residual = m->residual ? x : RR_NONE;
    int rc = rr_weights_bind(w, "", scope, dense_rows, m->bias ? 2 : 1, &d, err);

    if (!rc && m->residual && m->in != m->out) {
        rc = rr_weights_bind(w, "", scope, residual_rows, RR_COUNT(residual_rows), &d, err);
        residual = y;
        if (!rc) rr_builder_linear(w->builder, y, x, &d.residual, 1, RR_ACT_NONE, RR_NONE);
    }
    if (!rc) rr_builder_linear(w->builder, y, x, &d.linear, 1, m->act, residual);
    return rc;
}

int rr_modules_add(struct rr_weights *w, const struct rr_modules *m, const struct rr_registers *r,
                   uint32_t *output, struct rr_error *err)
{
    uint32_t x = r->last.x;
    int rc = RR_OK;

    if (m->pool == RR_OP_MEAN) rr_builder_pool(w->builder, RR_OP_MEAN, x, r->tokens.x);
    for (uint32_t i = 0; i < m->n && !rc; i++) {
        const struct rr_module *l = &m->list[i];
        uint32_t y = rr_builder_register(w->builder, l->out, RR_ROWS_SEQUENCES);
        struct rr_norm norm = { RR_NONE, RR_NONE };
        char scope[sizeof(l->path) + 2];

        snprintf(scope, sizeof(scope), "%s/", l->path);
        w->dim[RR_DIM_MODULE_IN] = l->in;
        w->dim[RR_DIM_MODULE_OUT] = l->out;
        if (l->norm) {
            rc = rr_weights_bind(w, "", scope, norm_rows, RR_COUNT(norm_rows), &norm, err);
            if (!rc) rr_builder_layer_norm(w->builder, y, x, &norm, NORM_EPS);
        } else {
            rc = add_dense(w, l, scope, x, y, err);
        }
        if (rc) rr_fail_prefix(err, "module %s", l->path);
        x = y;
    }
    *output = x;
    return rc;
}
