/* SPDX-License-Identifier: Apache-2.0 */
/* fields.c - see fields.h. */
#include "server/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/text.h"
#include "server/extras.h"

json_t *rr_fields_get(const json_t *obj, const char *key)
{
    json_t *v = json_object_get(obj, key);

    return json_is_null(v) ? NULL : v;
}

int rr_fields_no_memory(struct rr_fields *f)
{
    return rr_problem_set(f->problem, 503, "out of memory for this request");
}

static const char *kind_of(const char *expected)
{
    if (strstr(expected, "string")) return "string_type";
    if (strstr(expected, "integer")) return "int_type";
    if (strstr(expected, "boolean")) return "bool_type";
    if (strstr(expected, "number")) return "float_type";
    if (strstr(expected, "array")) return "list_type";
    return "model_type";
}

int rr_fields_wrong_type(struct rr_fields *f, const char *path, const json_t *found,
                         const char *expected)
{
    return rr_problem_field(f->problem, path, kind_of(expected), "expected %s, found %s", expected,
                            rr_json_type_name(found));
}

void rr_fields_path(char out[RR_FIELD_PATH], const char *where, const char *key)
{
    if (snprintf(out, RR_FIELD_PATH, "%s%s%s", where, *where ? "." : "", key) < 0) out[0] = 0;
}

void rr_fields_doc_path(char out[RR_FIELD_PATH], const struct rr_group *g, size_t i)
{
    const char *name = g->name ? g->name : "documents";

    if (g->lone)
        snprintf(out, RR_FIELD_PATH, "%s", name);
    else
        snprintf(out, RR_FIELD_PATH, "%s[%zu]", name, i);
}

int rr_fields_text(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                   bool required, struct rr_text *out)
{
    const json_t *v = rr_fields_get(obj, key);
    char path[RR_FIELD_PATH];

    rr_fields_path(path, where, key);
    if (!v && !required) return 0;
    if (!v && !json_object_get(obj, key))
        return rr_problem_field(f->problem, path, "missing", "Field required");
    if (!v) v = json_object_get(obj, key);
    if (!json_is_string(v)) return rr_fields_wrong_type(f, path, v, "a string");
    *out = (struct rr_text){ json_string_value(v), json_string_length(v) };
    return 0;
}

int rr_fields_bool(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                   bool *out)
{
    const json_t *v = rr_fields_get(obj, key);
    char path[RR_FIELD_PATH];

    if (!v) return 0;
    if (json_is_boolean(v)) {
        *out = json_is_true(v);
        return 0;
    }
    if (json_is_string(v) && json_string_length(v) <= 5) {
        bool yes = strcasecmp(json_string_value(v), "true") == 0;

        if (yes || strcasecmp(json_string_value(v), "false") == 0) {
            *out = yes;
            return 0;
        }
    }
    rr_fields_path(path, where, key);
    return rr_fields_wrong_type(f, path, v, "a boolean");
}

bool rr_fields_whole(const json_t *v, int64_t *out)
{
    double real = json_real_value(v);

    if (json_is_integer(v))
        *out = json_integer_value(v);
    else if (json_is_real(v) && floor(real) == real && fabs(real) < 9e15)
        *out = (int64_t)real;
    else
        return false;
    return true;
}

int rr_fields_int(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                  int64_t min, int64_t max, bool *has, int64_t *out)
{
    const json_t *v = rr_fields_get(obj, key);
    char path[RR_FIELD_PATH];
    int64_t n = 0;

    if (!v) return 0;
    rr_fields_path(path, where, key);
    if (!rr_fields_whole(v, &n)) return rr_fields_wrong_type(f, path, v, "an integer");
    if (n < min)
        return rr_problem_field(f->problem, path, "greater_than_equal",
                                "found %lld, must be at least %lld", (long long)n, (long long)min);
    if (n > max)
        return rr_problem_field(f->problem, path, "less_than_equal",
                                "found %lld, must be at most %lld", (long long)n, (long long)max);
    if (has) *has = true;
    *out = n;
    return 0;
}

int rr_fields_limit(struct rr_fields *f, const json_t *obj, const char *where, const char *key)
{
    bool has = false;
    int64_t n = 0;

    if (rr_fields_int(f, obj, where, key, 0, INT64_MAX, &has, &n)) return -1;
    f->ask->has_limit = has && n > 0;
    f->ask->limit = n;
    return 0;
}

int rr_fields_number(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                     bool *has, double *out)
{
    const json_t *v = rr_fields_get(obj, key);
    char path[RR_FIELD_PATH];

    if (!v) return 0;
    rr_fields_path(path, where, key);
    if (!json_is_number(v)) return rr_fields_wrong_type(f, path, v, "a number");
    *has = true;
    *out = json_number_value(v); /* finite: JSON has no other numbers */
    return 0;
}

int rr_fields_query(struct rr_fields *f, const json_t *obj, const char *where, struct rr_text *out)
{
    const json_t *query = json_object_get(obj, "query");
    char path[RR_FIELD_PATH];

    if (!json_is_object(query)) return rr_fields_text(f, obj, where, "query", true, out);
    rr_fields_path(path, where, "query");
    if (!rr_fields_get(query, "text") && rr_fields_get(query, "image"))
        return rr_problem_field(f->problem, path, "value_error", "images are not supported");
    return rr_fields_text(f, query, path, "text", true, out);
}

int rr_fields_query_name(struct rr_fields *f, struct rr_group *g, const char *where,
                         const char *key)
{
    char path[RR_FIELD_PATH];

    rr_fields_path(path, where, key);
    g->query_name = rr_arena_strndup(f->arena, path, strlen(path));
    return g->query_name ? 0 : rr_fields_no_memory(f);
}

/* ---- documents ---------------------------------------------------------------------------- */

/* The values of the rank fields that the object has, one a line. */
static int join_fields(struct rr_fields *f, const char *path, const json_t *obj,
                       const json_t *names, struct rr_text *out)
{
    size_t i, len = 0, parts = 0, at = 0;
    const json_t *name, *v;
    char *text;

    json_array_foreach(names, i, name)
    {
        if (!json_is_string(name)) {
            char where[RR_FIELD_PATH];

            snprintf(where, sizeof(where), "rank_fields[%zu]", i);
            return rr_fields_wrong_type(f, where, name, "a string");
        }
        v = json_object_get(obj, json_string_value(name));
        if (!json_is_string(v)) continue;
        len += json_string_length(v) + 1;
        parts++;
    }
    if (!parts)
        return rr_problem_field(f->problem, path, "missing",
                                "has none of the rank_fields as a string");
    text = rr_arena_alloc(f->arena, len, 1);
    if (!text) return rr_fields_no_memory(f);
    json_array_foreach(names, i, name)
    {
        v = json_object_get(obj, json_string_value(name));
        if (!json_is_string(v)) continue;
        if (at) text[at++] = '\n';
        memcpy(text + at, json_string_value(v), json_string_length(v));
        at += json_string_length(v);
    }
    *out = (struct rr_text){ text, at };
    return 0;
}

static int object_text(struct rr_fields *f, const char *path, const json_t *doc,
                       const struct rr_doc_rules *rules, struct rr_text *out)
{
    const char *key = rr_fields_get(doc, "text") ? "text" : "content";
    const json_t *v = rr_fields_get(doc, key);
    char where[RR_FIELD_PATH];

    if (json_array_size(rules->rank_fields) > 0)
        return join_fields(f, path, doc, rules->rank_fields, out);
    rr_fields_path(where, path, key);
    if (json_is_string(v)) {
        *out = (struct rr_text){ json_string_value(v), json_string_length(v) };
        return 0;
    }
    if (json_object_get(doc, "image") || json_is_array(v))
        return rr_problem_field(f->problem, path, "value_error", "images are not supported");
    if (v) return rr_fields_wrong_type(f, where, v, "a string");
    return rr_problem_field(f->problem, path, "missing",
                            "an object needs \"text\" or \"content\" as a string");
}

static int doc_text(struct rr_fields *f, const char *path, size_t i, const json_t *doc,
                    const struct rr_doc_rules *rules, struct rr_text *out)
{
    char where[RR_FIELD_PATH];

    if (json_is_string(doc)) {
        *out = (struct rr_text){ json_string_value(doc), json_string_length(doc) };
        return 0;
    }
    if (snprintf(where, sizeof(where), "%s[%zu]", path, i) < 0) where[0] = 0;
    if (json_is_object(doc) && rules->objects) return object_text(f, where, doc, rules, out);
    return rr_fields_wrong_type(f, where, doc,
                                rules->objects ? "a string or an object" : "a string");
}

int rr_fields_docs(struct rr_fields *f, json_t *list, const char *path,
                   const struct rr_doc_rules *rules, struct rr_group *g)
{
    bool one = json_is_string(list);
    size_t n = one ? 1 : json_array_size(list), i;

    if (!list) return rr_problem_field(f->problem, path, "missing", "Field required");
    if (!one && !json_is_array(list)) return rr_fields_wrong_type(f, path, list, "an array");
    if (n > f->config->max_documents)
        return rr_problem_field(f->problem, path, "too_long",
                                "found %zu, at most %zu are allowed (--max-documents)", n,
                                f->config->max_documents);
    g->source = list;
    g->n_docs = n;
    g->name = rr_arena_strndup(f->arena, path, strlen(path));
    g->lone = one;
    g->docs = rr_arena_alloc(f->arena, RR_MAX(n, 1), sizeof(*g->docs));
    if (!g->docs) return rr_fields_no_memory(f);
    for (i = 0; i < n; i++) {
        const json_t *doc = one ? list : json_array_get(list, i);

        if (doc_text(f, path, i, doc, rules, &g->docs[i])) return -1;
    }
    return 0;
}

/* ---- what all dialects share -------------------------------------------------------------- */

struct rr_group *rr_fields_group(struct rr_fields *f, size_t n)
{
    struct rr_group *g = rr_arena_alloc(f->arena, RR_MAX(n, 1), sizeof(*g));

    if (!g) {
        rr_fields_no_memory(f);
        return NULL;
    }
    f->ask->groups = g;
    f->ask->n_groups = n;
    return g;
}

static int length_limit(struct rr_fields *f, const json_t *obj, const char *where)
{
    int64_t max = f->config->max_length ? f->config->max_length : UINT32_MAX, n = 0;
    bool has = false;

    if (rr_fields_int(f, obj, where, "max_length", 0, max, &has, &n)) return -1;
    /* vLLM's name; -1 asks for as much as the model takes, which is what no limit means here */
    if (!has && rr_fields_int(f, obj, where, "truncate_prompt_tokens", -1, max, &has, &n))
        return -1;
    if (has && n > 0) f->ask->max_length = (uint32_t)n;
    return 0;
}

static int direction(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                     struct rr_cut *cut)
{
    struct rr_text word = { 0 };
    char path[RR_FIELD_PATH];

    if (rr_fields_text(f, obj, where, key, false, &word)) return -1;
    if (!word.data) return 0;
    if (strcasecmp(word.data, "left") == 0) {
        cut->side = RR_TRUNCATE_LEFT;
    } else if (strcasecmp(word.data, "right") == 0) {
        cut->side = RR_TRUNCATE_RIGHT;
    } else {
        rr_fields_path(path, where, key);
        return rr_problem_field(f->problem, path, "enum", "must be \"left\" or \"right\"");
    }
    return 0;
}

/* NIM spells it "NONE" and "END"; the others use a boolean. */
static int truncation(struct rr_fields *f, const json_t *obj, const char *where, const char *key,
                      struct rr_cut *cut)
{
    const json_t *v = rr_fields_get(obj, key);
    bool yes = true;

    if (json_is_string(v) && strcasecmp(json_string_value(v), "none") == 0)
        yes = false;
    else if (json_is_string(v) && strcasecmp(json_string_value(v), "start") == 0)
        cut->side = RR_TRUNCATE_LEFT;
    else if (json_is_string(v) && strcasecmp(json_string_value(v), "end") == 0)
        cut->side = RR_TRUNCATE_RIGHT;
    else if (rr_fields_bool(f, obj, where, key, &yes))
        return -1;
    if (v) cut->never = !yes;
    return 0;
}

int rr_fields_cut(struct rr_fields *f, const json_t *obj, const char *where, struct rr_cut *cut)
{
    if (truncation(f, obj, where, "truncation", cut) || truncation(f, obj, where, "truncate", cut))
        return -1;
    if (direction(f, obj, where, "truncation_side", cut)) return -1;
    return direction(f, obj, where, "truncation_direction", cut);
}

int rr_fields_options(struct rr_fields *f, const json_t *obj, const char *where)
{
    bool activation = true;

    if (!obj) return 0;
    if (length_limit(f, obj, where) || rr_fields_cut(f, obj, where, &f->ask->cut)) return -1;
    if (rr_fields_bool(f, obj, where, "raw_scores", &f->ask->raw_scores)) return -1;
    if (rr_fields_bool(f, obj, where, "use_activation", &activation)) return -1;
    if (!activation) f->ask->raw_scores = true;
    return rr_extras_parse(f, obj, where);
}

int rr_fields_common(struct rr_fields *f)
{
    return rr_fields_options(f, f->root, "");
}
