/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - the layer on jansson.  jansson's own error texts quote the input, which may be a
 * client's; messages are therefore made here from its codes and positions.
 * Layer: base (L0).  Threads: any. */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json_lift.h"
#include "base/mem.h"

/* Set when jansson asked for memory in vain on this thread: it does not always say so, and may
 * leave a character of a string or number out. */
static _Thread_local bool alloc_failed;

/* ---- memory -------------------------------------------------------------------------------- */

/* jansson takes memory by functions of the whole process: those of rr_json_init, or of a program
 * that librerank is a part of.  They are asked as before, and their refusals noted. */
static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(json_malloc_t) asked; /* written before ask_and_note can be called; relaxed */

static void *ask_and_note(size_t bytes)
{
    void *p = atomic_load_explicit(&asked, memory_order_relaxed)(bytes);

    if (!p) alloc_failed = true;
    return p;
}

static void hook(void)
{
    json_malloc_t get;
    json_free_t put;

    pthread_mutex_lock(&hook_lock);
    json_get_alloc_funcs(&get, &put);
    if (get != ask_and_note) {
        atomic_store_explicit(&asked, get, memory_order_relaxed);
        json_set_alloc_funcs(ask_and_note, put);
    }
    pthread_mutex_unlock(&hook_lock);
}

/* The library may be closed before the program's jansson is. */
__attribute__((destructor)) static void unhook(void)
{
    json_malloc_t get;
    json_free_t put;

    json_get_alloc_funcs(&get, &put);
    if (get == ask_and_note)
        json_set_alloc_funcs(atomic_load_explicit(&asked, memory_order_relaxed), put);
}

static void *json_alloc(size_t bytes)
{
    return rr_alloc(RR_MEM_JSON, 1, bytes);
}

void rr_json_init(void)
{
    json_set_alloc_funcs(json_alloc, rr_free);
}

/* ---- parsing ------------------------------------------------------------------------------- */

static unsigned line_of(struct rr_text text, size_t at)
{
    unsigned line = 1;
    size_t i;

    for (i = 0; i < at; i++) line += text.data[i] == '\n';
    return line;
}

/* Walks over the bytes without understanding more than strings and brackets: refuses NUL bytes,
 * which jansson takes for the end of the text, and what is nested deeper than max. */
static int scan(struct rr_json_lift *lift, unsigned max, struct rr_error *err)
{
    struct rr_text text = lift->text;
    const char *nul = text.len ? memchr(text.data, 0, text.len) : NULL;
    unsigned depth = 0;
    size_t i;

    if (nul)
        return rr_fail(err, RR_EFORMAT, "JSON has a NUL byte at line %u",
                       line_of(text, (size_t)(nul - text.data)));
    for (i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (c == '"') {
            i = rr_lift_string(lift, i + 1);
        } else if (c == '[' || c == '{') {
            if (++depth > max) {
                return rr_fail(err, RR_ETOOBIG, "JSON is nested deeper than %u levels at line %u",
                               max, line_of(text, i));
            }
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return RR_OK;
}

static const char *syntax_problem(const json_error_t *e)
{
    switch (json_error_code(e)) {
    case json_error_premature_end_of_input: return "ends too early";
    case json_error_end_of_input_expected: return "has more after the value";
    case json_error_invalid_utf8: return "is not valid UTF-8";
    case json_error_null_byte_in_key: return "has a NUL byte in a key";
    case json_error_duplicate_key: return "has a key twice";
    case json_error_numeric_overflow: return "has a number that is out of range";
    default: break;
    }
    /* No code of its own; the text before the quotation is jansson's, not the client's. */
    if (!strncmp(e->text, "invalid Unicode", 15)) return "has half of a surrogate pair";
    if (!strncmp(e->text, "control character", 17) || !strncmp(e->text, "unexpected newline", 18)) {
        return "has a bare control character";
    }
    /* Python writes these, so they are worth a word; "-Infinity" ends its token at the sign. */
    if (!strcmp(e->text, "invalid token near 'NaN'") ||
        !strcmp(e->text, "invalid token near 'Infinity'") ||
        !strcmp(e->text, "invalid token near '-'"))
        return "has NaN, Infinity or a lone '-' where JSON wants a number";
    return "has a syntax error";
}

/* The tree without its long strings, then with them; NULL when that fails for whatever reason. */
static json_t *parse_lifted(const struct rr_json_lift *lift, size_t flags)
{
    struct rr_buf hollow;
    json_t *tree = NULL;
    json_error_t e;

    rr_lift_hollow(lift, &hollow);
    if (!hollow.failed) tree = json_loadb(hollow.data, hollow.len, flags, &e);
    rr_buf_free(&hollow);
    if (tree && rr_lift_fill(lift, tree)) {
        json_decref(tree);
        tree = NULL;
    }
    return tree;
}

/* The line is told where there are several: a line of JSONL has a number of its own. */
static int fail_at(const json_error_t *e, struct rr_text text, struct rr_error *err)
{
    if (!text.len || !memchr(text.data, '\n', text.len))
        return rr_fail(err, RR_EFORMAT, "JSON %s at column %d", syntax_problem(e), e->column);
    return rr_fail(err, RR_EFORMAT, "JSON %s at line %d, column %d", syntax_problem(e), e->line,
                   e->column);
}

/* What jansson says of the text as it stands. */
static json_t *parse_whole(struct rr_text text, size_t flags, struct rr_error *err, int *rc)
{
    json_error_t e;
    json_t *tree;

    /* jansson takes NULL for a mistake, not for nothing. */
    tree = json_loadb(text.len ? text.data : "", text.len, flags, &e);
    if (tree) return tree;
    if (alloc_failed || !e.text[0] || json_error_code(&e) == json_error_out_of_memory)
        *rc = RR_ENOMEM;
    else
        *rc = fail_at(&e, text, err);
    return NULL;
}

int rr_json_parse(json_t **out, struct rr_text text, unsigned max_depth,
                  enum rr_json_duplicates dup, struct rr_error *err)
{
    size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY;
    struct rr_json_lift lift = { .text = text };
    int rc;

    *out = NULL;
    rc = scan(&lift, max_depth ? max_depth : RR_JSON_DEPTH, err);
    if (dup == RR_JSON_DUP_REJECT) flags |= JSON_REJECT_DUPLICATES;
    if (dup == RR_JSON_REALS) flags |= JSON_DECODE_INT_AS_REAL;
    hook();
    alloc_failed = false;
    if (!rc && rr_lift_worth(&lift)) *out = parse_lifted(&lift, flags);
    rr_lift_free(&lift);
    if (!rc && !*out && !alloc_failed) *out = parse_whole(text, flags, err, &rc);
    if (!alloc_failed && rc != RR_ENOMEM) return rc;
    json_decref(*out); /* a tree made with a failed allocation may lack something */
    *out = NULL;
    return rr_fail(err, RR_ENOMEM, "out of memory while reading JSON");
}

int rr_json_read(json_t **out, const char *path, size_t limit, enum rr_json_duplicates dup,
                 struct rr_error *err)
{
    char *text;
    size_t len;
    int rc;

    *out = NULL;
    rc = rr_file_read_regular(&text, &len, path, limit, RR_MEM_MISC, err);
    if (rc) return rc;
    rc = rr_json_parse(out, (struct rr_text){ text, len }, 0, dup, err);
    rr_free(text);
    return rc ? rr_fail_prefix(err, "%s", path) : RR_OK;
}

int rr_json_read_beside(json_t **out, char path[PATH_MAX], const char *folder, const char *name,
                        size_t limit, enum rr_json_duplicates dup, struct rr_error *err)
{
    *out = NULL;
    if (!rr_path_join(path, PATH_MAX, folder, name) || !rr_file_exists(path)) return RR_OK;
    return rr_json_read(out, path, limit, dup, err);
}

const char *rr_json_type_name(const json_t *v)
{
    if (!v) return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "unknown";
}

/* The value of key, NULL when it is missing or null. */
static const json_t *lookup(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_null(v) ? NULL : v;
}

static int wrong_type(const json_t *v, const char *where, const char *key, const char *expected,
                      struct rr_error *err)
{
    return rr_fail(err, RR_EFORMAT, "%s: %s: found %s, expected %s", where, key,
                   rr_json_type_name(v), expected);
}

int rr_json_u32(const json_t *obj, const char *where, const char *key, uint32_t min, uint32_t max,
                uint32_t *out, struct rr_error *err)
{
    const json_t *v = lookup(obj, key);
    json_int_t i;

    if (!v) return RR_OK;
    if (!json_is_integer(v)) return wrong_type(v, where, key, "an integer", err);
    i = json_integer_value(v);
    if (i < (json_int_t)min || i > (json_int_t)max) {
        return rr_fail(err, RR_EFORMAT, "%s: %s: found %" JSON_INTEGER_FORMAT ", expected %u to %u",
                       where, key, i, min, max);
    }
    *out = (uint32_t)i;
    return RR_OK;
}

int rr_json_f32(const json_t *obj, const char *where, const char *key, float *out,
                struct rr_error *err)
{
    const json_t *v = lookup(obj, key);
    double d;

    if (!v) return RR_OK;
    if (!json_is_number(v)) return wrong_type(v, where, key, "a number", err);
    d = json_number_value(v);
    if (!(fabs(d) <= (double)FLT_MAX)) {
        return rr_fail(err, RR_EFORMAT, "%s: %s: found %g, expected a number that fits float32",
                       where, key, d);
    }
    *out = (float)d;
    return RR_OK;
}

int rr_json_bool(const json_t *obj, const char *where, const char *key, bool *out,
                 struct rr_error *err)
{
    const json_t *v = lookup(obj, key);

    if (!v) return RR_OK;
    if (!json_is_boolean(v)) return wrong_type(v, where, key, "a boolean", err);
    *out = json_is_true(v);
    return RR_OK;
}

int rr_json_text(const json_t *obj, const char *where, const char *key, struct rr_text *out,
                 struct rr_error *err)
{
    const json_t *v = lookup(obj, key);

    if (!v) return RR_OK;
    if (!json_is_string(v)) return wrong_type(v, where, key, "a string", err);
    *out = (struct rr_text){ json_string_value(v), json_string_length(v) };
    return RR_OK;
}
