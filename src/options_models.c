/* SPDX-License-Identifier: Apache-2.0 */
/* options_models.c - --model and --model-alias taken apart: several models, each with settings of
 * its own.  Layer: top (L6).  Threads: one, at start. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "options.h"
#include "options_value.h"
#include "rerank.h"
#include "starter.h"

/* Settings of the table that a model may have for itself: "fast=/models/x,dtype=int8". */
static const char *const own_settings[] = { "device", "dtype", "max-length", "rescore-dtype" };

struct parser {
    struct rr_arena *arena;
    int code; /* of refusals */
    const char *where;
    struct rr_error *err;
};

/* ---- lists ---------------------------------------------------------------------------------- */

const char *rr_list_join(struct rr_arena *arena, const struct rr_option *o, const void *fields,
                         const char *text)
{
    const char *list = *(const char *const *)(const void *)((const char *)fields + o->offset);
    size_t n = strlen(list), m = strlen(text);
    char *both = rr_arena_alloc(arena, n + m + 2, 1);

    if (both) snprintf(both, n + m + 2, "%s\n%s", list, text);
    return both;
}

/* The next line of a list; false: there is none. */
static bool next_line(const char **at, struct rr_text *line)
{
    while (**at == '\n') ++*at;
    *line = (struct rr_text){ *at, strcspn(*at, "\n") };
    *at += line->len;
    return line->len > 0;
}

static size_t count_lines(const char *list)
{
    struct rr_text line;
    size_t n = 0;

    while (next_line(&list, &line)) n++;
    return n;
}

/* ---- names ---------------------------------------------------------------------------------- */

/* Also what people give as "model" in requests: ORG/NAME, rerank-v3.5, name:tag. */
static bool good_name(const char *s, size_t len)
{
    size_t i;

    if (len == 0 || len > RR_MODEL_NAME_MAX || !isalnum((unsigned char)s[0])) return false;
    for (i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("._-/:@", s[i])) return false;
    return true;
}

static int out_of_memory(struct parser *p)
{
    return rr_fail(p->err, RR_ENOMEM, "%s: out of memory", p->where);
}

/* ---- one model ------------------------------------------------------------------------------ */

/* Does "key=..." begin here? */
static bool is_setting(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz-_");

    return n > 0 && s[n] == '=';
}

/* The comma before the first setting in a path, or its end. */
static char *settings_of(char *path)
{
    char *comma;

    for (comma = strchr(path, ','); comma; comma = strchr(comma + 1, ','))
        if (is_setting(comma + 1)) return comma;
    return path + strlen(path);
}

static const struct rr_option *find_own(const char *key)
{
    size_t n, i, k;
    const struct rr_option *table = rr_settings_table(&n);

    for (k = 0; k < RR_COUNT(own_settings); k++) {
        if (strcmp(own_settings[k], key) != 0) continue;
        for (i = 0; i < n; i++)
            if (strcmp(table[i].name, key) == 0) return &table[i];
    }
    return NULL;
}

/* "dtype=int8", written into the text itself. */
static int read_setting(struct parser *p, struct rr_model_spec *m, char *text)
{
    struct rr_settings own = { 0 };
    const struct rr_option *o;
    char *value = strchr(text, '='), *c, where[500];
    int rc;

    if (!value)
        return rr_fail(p->err, p->code,
                       "%s: found \"%.60s\", expected a setting such as dtype=int8", p->where,
                       text);
    *value++ = 0;
    for (c = text; *c; c++)
        if (*c == '_') *c = '-';
    o = find_own(text);
    if (!o)
        return rr_fail(p->err, p->code,
                       "%s: found \"%.60s\", a model can have device, dtype, max-length and "
                       "rescore-dtype of its own",
                       p->where, text);
    snprintf(where, sizeof(where), "%.400s: %s", p->where, text);
    rc = rr_option_parse(o, value, &own, p->arena, p->code, where, p->err);
    if (rc) return rc;
    if (own.device) m->device = own.device;
    if (own.dtype) m->dtype = own.dtype;
    if (own.rescore_dtype) m->rescore_dtype = own.rescore_dtype;
    if (own.max_length) m->max_length = own.max_length;
    return RR_OK;
}

/* "[name=]path[,key=value ...]"; what is there under all of it is a bare path, as it always was. */
static int read_model(struct parser *p, struct rr_model_spec *m, struct rr_text line)
{
    char *text = rr_arena_strndup(p->arena, line.data, line.len), *eq, *at;
    int rc = RR_OK;

    if (!text) return out_of_memory(p);
    *m = (struct rr_model_spec){ .name = "", .path = text };
    if (rr_file_exists(text)) return RR_OK;
    eq = strchr(text, '=');
    at = settings_of(text);
    if (eq && eq < at && good_name(text, (size_t)(eq - text))) {
        *eq = 0;
        m->name = text;
        m->path = eq + 1;
        if (!*m->path || m->path == at)
            return rr_fail(p->err, p->code, "%s: found no folder for %s, expected %s=FOLDER",
                           p->where, text, text);
    }
    while (*at && !rc) {
        char *setting = at + 1, *end = setting + strcspn(setting, ",");

        *at = 0;
        at = end;
        if (*end) {
            *end = 0;
            rc = read_setting(p, m, setting);
            *end = ',';
        } else {
            rc = read_setting(p, m, setting);
        }
    }
    return rc;
}

static int add_model(struct parser *p, struct rr_settings *s, const struct rr_model_spec *m)
{
    const struct rr_model_spec *other = s->models, *end = other + s->n_models;

    while (other < end && strcmp(other->name, m->name) != 0) other++;
    if (other == end) {
        s->models[s->n_models++] = *m;
        return RR_OK;
    }
    if (*m->name)
        return rr_fail(p->err, p->code,
                       "%s: found two models called %s, %.100s and %.100s; each needs a name of "
                       "its own",
                       p->where, m->name, other->path, m->path);
    return rr_fail(p->err, p->code,
                   "%s: found two models without a name, %.100s and %.100s; give them names: "
                   "NAME=%.100s",
                   p->where, other->path, m->path, m->path);
}

/* The one without a name is the default, else the first. */
static void default_first(struct rr_settings *s)
{
    struct rr_model_spec m;
    size_t i;

    for (i = 0; i < s->n_models && s->models[i].name[0]; i++) continue;
    if (i == s->n_models) return;
    m = s->models[i];
    memmove(&s->models[1], &s->models[0], i * sizeof(m));
    s->models[0] = m;
}

int rr_models_parse(struct rr_settings *s, struct rr_arena *arena, int code, const char *where,
                    struct rr_error *err)
{
    struct parser p = { arena, code, where, err };
    const char *at = s->model_list;
    struct rr_model_spec m = { .name = "", .path = "" };
    struct rr_text line;
    size_t n = count_lines(at);
    int rc = RR_OK;

    if (n > RR_MAX_MODELS)
        return rr_fail(err, code, "%s: found %zu models, at most %d", where, n, RR_MAX_MODELS);
    s->models = rr_arena_alloc(arena, n + 1, sizeof(*s->models));
    if (!s->models) return out_of_memory(&p);
    s->n_models = 0;
    while (!rc && next_line(&at, &line)) {
        rc = read_model(&p, &m, line);
        if (!rc) rc = add_model(&p, s, &m);
    }
    if (!rc && !s->n_models) rc = add_model(&p, s, &m);
    if (rc) return rc;
    default_first(s);
    s->model = s->models[0].path;
    return RR_OK;
}

/* ---- aliases -------------------------------------------------------------------------------- */

static bool is_model(const struct rr_settings *s, const char *name)
{
    size_t i;

    for (i = 0; i < s->n_models; i++)
        if (s->models[i].name[0] && strcmp(s->models[i].name, name) == 0) return true;
    return false;
}

/* "alias=name". */
static int read_alias(struct parser *p, const struct rr_settings *s, struct rr_model_alias *a,
                      struct rr_text line)
{
    char *text = rr_arena_strndup(p->arena, line.data, line.len), *eq;
    size_t i;

    if (!text) return out_of_memory(p);
    eq = strchr(text, '=');
    if (!eq || !good_name(text, (size_t)(eq - text)))
        return rr_fail(p->err, p->code, "%s: found \"%.60s\", expected ALIAS=NAME", p->where, text);
    *eq = 0;
    *a = (struct rr_model_alias){ text, eq + 1 };
    if (strcmp(a->name, "default") != 0 && !is_model(s, a->name))
        return rr_fail(p->err, p->code,
                       "%s: %s stands for \"%.60s\", expected the name of a --model, or default",
                       p->where, text, a->name);
    if (is_model(s, text))
        return rr_fail(p->err, p->code, "%s: %s is the name of a model itself", p->where, text);
    for (i = 0; i < s->n_aliases; i++) {
        if (strcmp(s->aliases[i].alias, text) == 0)
            return rr_fail(p->err, p->code, "%s: %s stands for %s and for %s, expected one of them",
                           p->where, text, s->aliases[i].name, a->name);
    }
    return RR_OK;
}

int rr_aliases_parse(struct rr_settings *s, struct rr_arena *arena, int code, const char *where,
                     struct rr_error *err)
{
    struct parser p = { arena, code, where, err };
    const char *at = s->model_alias;
    struct rr_text line;
    size_t n = count_lines(at);
    int rc = RR_OK;

    s->aliases = rr_arena_alloc(arena, n + 1, sizeof(*s->aliases));
    if (!s->aliases) return out_of_memory(&p);
    for (s->n_aliases = 0; !rc && next_line(&at, &line); s->n_aliases++)
        rc = read_alias(&p, s, &s->aliases[s->n_aliases], line);
    return rc;
}

/* ---- engines -------------------------------------------------------------------------------- */

static const char *folder_of(const struct rr_model_spec *m)
{
    if (m->dir) return m->dir;
    return m->path[0] ? m->path : rr_starter_dir();
}

/* Whoever wants an exact order means f32's. */
static const char *rescore_dtype_of(const struct rr_settings *s, const struct rr_model_spec *m)
{
    if (m->rescore_dtype) return m->rescore_dtype;
    return s->exact_top_k && strcmp(s->rescore_dtype, "none") == 0 ? "f32" : s->rescore_dtype;
}

void rr_settings_model(const struct rr_settings *s, size_t i, struct rr_options *opt)
{
    const struct rr_model_spec *m = &s->models[i];

    rr_options_init(opt);
    opt->model = folder_of(m);
    opt->device = m->device ? m->device : s->device;
    opt->devices = m->device ? NULL : s->devices;
    opt->dtype = m->dtype ? m->dtype : s->dtype;
    opt->rescore_dtype = rescore_dtype_of(s, m);
    opt->max_length = m->max_length ? m->max_length : s->max_length;
    opt->stall_ns = (uint64_t)(s->stall_timeout * 1e9);
    opt->isa = s->isa;
    opt->fallback = s->fallback;
    opt->threads = s->threads;
    opt->prep_threads = s->prep_threads;
    opt->batch_tokens = s->batch_tokens;
    opt->queue_tokens = s->queue_tokens;
    opt->queue_requests = s->queue_requests;
    opt->queue_bytes = s->queue_bytes;
    opt->literal_specials = s->literal_specials;
    opt->cache_dir = s->cache_dir[0] ? s->cache_dir : NULL;
    opt->cache_bytes = s->cache_size;
    opt->shared_cache = s->redis.url ? &s->redis : NULL;
    opt->packed_cache = s->packed_cache;
}

void rr_settings_engine(const struct rr_settings *s, struct rr_options *opt)
{
    rr_settings_model(s, 0, opt);
}
