/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - reads settings from the command line, the environment and the configuration file.
 * Layer: top (L6).  Threads: one, at start.
 *
 * Each source offers its values with a rank; a field keeps the value of the highest rank, so the
 * order in which the sources are read does not matter. */
#include "options.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "options_file.h"
#include "options_value.h"
#include "rerank.h"

#define DEFAULT_CONFIG "/etc/rerankd/rerankd.conf"
#define MAX_CONFIG_BYTES ((size_t)1 << 20)
#define MAX_STRING_BYTES ((size_t)8 << 20) /* all values and messages' places together */

static const struct rr_option table[] = {
#define RR_OPTION(field, type, flag, env, def, min, max, section, arg, help) \
    { flag,     env, def, RR_OPTION_##type, offsetof(struct rr_settings, field), min, max, \
      #section, arg, help },
#include "options.def"
#undef RR_OPTION
};

#define N_TABLE RR_COUNT(table)

/* What every sub-command understands besides the table; "h" is --help. */
static const char *const common_flags[] = { "help", "config", "print-config" };

enum rank { RANK_NONE, RANK_DEFAULT, RANK_FILE, RANK_ENV, RANK_FLAG };

struct origin {
    enum rank rank;
    const char *where; /* "environment PORT", "/etc/rerankd/rerankd.conf:3" */
};

struct store { /* behind rr_settings.storage */
    struct rr_arena arena;
    struct origin origins[N_TABLE];
    const char *config;      /* --config, RERANKD_CONFIG or NULL */
    const char *config_read; /* the file that was read; NULL: none */
    struct rr_load load;     /* as it was asked, with copies of the words: for rr_settings_again */
};

struct reader {
    struct rr_settings *s;
    struct store *store;
    struct rr_load *load;
    struct rr_error *err;
};

extern char **environ;

const struct rr_option *rr_settings_table(size_t *n)
{
    *n = N_TABLE;
    return table;
}

const char *rr_env(const char *name)
{
    const char *v = getenv(name);

    return v && *v ? v : NULL;
}

/* ---- one value ------------------------------------------------------------------------------ */

/* Offers a value for table[i].  where is copied. */
static int offer(struct reader *r, size_t i, enum rank rank, const char *where, const char *text)
{
    struct origin *origin = &r->store->origins[i];
    char place[400];
    int rc, code = rank == RANK_FLAG ? RR_EINVAL : RR_EFORMAT;

    if (rank < origin->rank) return RR_OK;
    if (table[i].type == RR_OPTION_LIST && rank == origin->rank) { /* one more of them */
        text = rr_list_join(&r->store->arena, &table[i], r->s, text);
        if (!text) return rr_fail(r->err, RR_ENOMEM, "%.330s: out of memory", where);
    }
    snprintf(place, sizeof(place), "%.330s%s%s", where, rank == RANK_FILE ? ": " : "",
             rank == RANK_FILE ? table[i].name : "");
    rc = rr_option_parse(&table[i], text, r->s, &r->store->arena, code, place, r->err);
    if (rc) return rc;
    origin->rank = rank;
    origin->where = rr_arena_strndup(&r->store->arena, where, strlen(where));
    return origin->where ? RR_OK : rr_fail(r->err, RR_ENOMEM, "%s: out of memory", where);
}

/* ---- command line --------------------------------------------------------------------------- */

/* The option called name in the n options of list, or n. */
static size_t find_option(const struct rr_option *list, size_t n, const char *name)
{
    size_t i;

    for (i = 0; i < n && strcmp(list[i].name, name) != 0; i++) continue;
    return i;
}

static int unknown_flag(struct reader *r, const char *word)
{
    const char *names[2 * (N_TABLE + 64)];
    char negated[N_TABLE + 64][40];
    const struct rr_option *o;
    const char *near;
    size_t i, n = 0, k = 0;
    size_t n_all = N_TABLE + RR_MIN(r->load->n_own, (size_t)60);

    for (i = 0; i < RR_COUNT(common_flags); i++) names[n++] = common_flags[i];
    for (i = 0; i < n_all; i++) {
        o = i < N_TABLE ? &table[i] : &r->load->own[i - N_TABLE];
        names[n++] = o->name;
        if (o->type != RR_OPTION_BOOL) continue;
        snprintf(negated[k], sizeof(negated[k]), "no-%s", o->name);
        names[n++] = negated[k++];
    }
    near = rr_text_nearest(word + strspn(word, "-"), names, n);
    if (near)
        return rr_fail(r->err, RR_EINVAL, "unknown option %.60s; did you mean --%s?", word, near);
    return rr_fail(r->err, RR_EINVAL, "unknown option %.60s; --help lists the options", word);
}

struct flag { /* one "--name[=value]" taken apart */
    char name[64];
    const char *value; /* NULL: none after a '=' */
};

/* Gives the value after '=' or the next word, whose index *at then is moved to. */
static int take_value(struct reader *r, const struct flag *f, const char *arg, int *at,
                      const char **value)
{
    *value = f->value;
    if (*value) return RR_OK;
    if (*at + 1 >= r->load->argc)
        return rr_fail(r->err, RR_EINVAL, "--%s: needs a value (%s)", f->name, arg);
    *value = r->load->argv[++*at];
    return RR_OK;
}

/* --fallback, --no-fallback, --fallback=false. */
static int bool_text(struct reader *r, const struct flag *f, bool negated, const char **value)
{
    if (negated && f->value) return rr_fail(r->err, RR_EINVAL, "--%s: takes no value", f->name);
    *value = f->value ? f->value : negated ? "false" : "true";
    return RR_OK;
}

static int read_common_flag(struct reader *r, const struct flag *f, int *at, bool *found)
{
    *found = true;
    if (strcmp(f->name, "config") == 0) {
        if (r->store->config) /* of two, the first would count for nothing */
            return rr_fail(r->err, RR_EINVAL,
                           "--config: given twice, expected once: put all settings into one file, "
                           "or give some of them as options");
        return take_value(r, f, "FILE", at, &r->store->config);
    }
    if (strcmp(f->name, "help") == 0 && !f->value) {
        r->load->help = true;
    } else if (strcmp(f->name, "print-config") == 0 && !f->value) {
        r->load->print_config = true;
    } else {
        *found = false;
    }
    return RR_OK;
}

static int read_flag(struct reader *r, const char *word, int *at)
{
    struct rr_load *load = r->load;
    const struct rr_option *list = load->own;
    size_t n = load->n_own, i, name_len = strcspn(word, "=");
    struct flag f = { .value = word[name_len] ? word + name_len + 1 : NULL };
    char where[70];
    const char *value;
    bool negated = false, found;
    int rc, pass;

    if (strncmp(word, "--", 2) != 0 || name_len - 2 >= sizeof(f.name)) return unknown_flag(r, word);
    snprintf(f.name, sizeof(f.name), "%.*s", (int)name_len - 2, word + 2);
    rc = read_common_flag(r, &f, at, &found);
    if (rc || found) return rc;

    for (pass = 0; pass < 2; pass++, list = table, n = N_TABLE) {
        i = find_option(list, n, f.name);
        if (i == n && strncmp(f.name, "no-", 3) == 0) {
            i = find_option(list, n, f.name + 3);
            negated = i < n && list[i].type == RR_OPTION_BOOL;
            if (!negated) i = n;
        }
        if (i < n) break;
    }
    if (pass == 2) return unknown_flag(r, word);
    if (list[i].type == RR_OPTION_BOOL)
        rc = bool_text(r, &f, negated, &value);
    else
        rc = take_value(r, &f, list[i].arg, at, &value);
    if (rc) return rc;
    snprintf(where, sizeof(where), "--%s", list[i].name);
    if (list == table) return offer(r, i, RANK_FLAG, where, value);
    return rr_option_parse(&list[i], value, load->own_fields, &r->store->arena, RR_EINVAL, where,
                           r->err);
}

static int read_flags(struct reader *r)
{
    struct rr_load *load = r->load;
    bool only_words = false;
    int i, rc;

    for (i = 0; i < load->argc; i++) {
        char *word = load->argv[i];

        if (only_words || word[0] != '-' || !word[1]) {
            load->rest[load->n_rest++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_words = true;
        } else if (strcmp(word, "-h") == 0) {
            load->help = true;
        } else {
            rc = read_flag(r, word, &i);
            if (rc) return rc;
        }
    }
    return RR_OK;
}

/* ---- environment ---------------------------------------------------------------------------- */

/* Kubernetes gives pods RERANKD_PORT=tcp://10.0.0.1:8002 when a service is called rerankd. */
static bool is_service_link(const char *value)
{
    return strncmp(value, "tcp://", 6) == 0 || strncmp(value, "udp://", 6) == 0;
}

static int read_environment(struct reader *r)
{
    char name[80], where[100];
    const char *value, *from;
    size_t i;
    int rc;

    for (i = 0; i < N_TABLE; i++) {
        rr_option_env_name(&table[i], name, sizeof(name));
        from = name;
        value = rr_env(from);
        if (value && is_service_link(value)) value = NULL;
        if (!value && table[i].env[0]) {
            from = table[i].env;
            value = rr_env(from);
        }
        if (!value) continue;
        snprintf(where, sizeof(where), "environment %s", from);
        rc = offer(r, i, RANK_ENV, where, value);
        if (rc) return rc;
    }
    return RR_OK;
}

/* A misspelt name would otherwise do nothing without a word. */
static void warn_of_unknown_names(void)
{
    static char known[N_TABLE][80];
    const char *names[N_TABLE];
    const char *near;
    char name[80];
    char **e;
    size_t i;

    for (i = 0; i < N_TABLE; i++) {
        rr_option_env_name(&table[i], known[i], sizeof(known[i]));
        names[i] = known[i];
    }
    for (e = environ; *e; e++) {
        if (strncmp(*e, "RERANKD_", 8) != 0 || strncmp(*e, "RERANKD_CONFIG=", 15) == 0) continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
        for (i = 0; i < N_TABLE && strcmp(name, names[i]) != 0; i++) continue;
        if (i < N_TABLE) continue;
        near = rr_text_nearest(name, names, N_TABLE);
        if (near)
            rr_log(RR_WARN, "environment %s is no setting of rerankd; did you mean %s?", name,
                   near);
    }
}

/* ---- configuration file --------------------------------------------------------------------- */

static int unknown_key(struct reader *r, const char *where, const char *key)
{
    const char *names[N_TABLE];
    const char *near;
    size_t i;

    for (i = 0; i < N_TABLE; i++) names[i] = table[i].name;
    near = rr_text_nearest(key, names, N_TABLE);
    if (near)
        return rr_fail(r->err, RR_EFORMAT, "%s: unknown setting \"%.60s\"; did you mean %s?", where,
                       key, near);
    return rr_fail(r->err, RR_EFORMAT,
                   "%s: unknown setting \"%.60s\"; rerankd serve --help lists the settings", where,
                   key);
}

static int read_line(struct reader *r, const char *path, int number, char *line, int seen[N_TABLE])
{
    char where[400], *key, *value;
    size_t i;
    int rc;

    snprintf(where, sizeof(where), "%.300s:%d", path, number);
    rc = rr_config_line(line, where, &key, &value, r->err);
    if (rc || !key) return rc;
    i = find_option(table, N_TABLE, key);
    if (i == N_TABLE) return unknown_key(r, where, key);
    if (!value)
        return rr_fail(r->err, RR_EFORMAT,
                       "%s: %s: the quote is not closed, or something follows it", where, key);
    if (seen[i] && table[i].type != RR_OPTION_LIST)
        return rr_fail(r->err, RR_EFORMAT, "%s: %s was already set in line %d", where, key,
                       seen[i]);
    seen[i] = number;
    return offer(r, i, RANK_FILE, where, value);
}

static int read_config(struct reader *r)
{
    const char *path = r->store->config ? r->store->config : rr_env("RERANKD_CONFIG");
    int seen[N_TABLE] = { 0 };
    char *text = NULL, *line, *end;
    size_t len = 0;
    int rc = RR_OK, number = 0;

    if (!path && rr_file_exists(DEFAULT_CONFIG)) path = DEFAULT_CONFIG;
    if (!path || strcmp(path, "none") == 0) return RR_OK;
    r->store->config_read = path;
    rc = rr_file_read(&text, &len, path, MAX_CONFIG_BYTES, RR_MEM_MISC, r->err);
    if (rc) {
        rr_fail_prefix(r->err, "configuration file");
        return rc;
    }
    if (strlen(text) != len)
        rc = rr_fail(r->err, RR_EFORMAT, "%.300s: holds a NUL byte, expected text", path);
    line = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? text + 3 : text; /* some editors' mark */
    for (; !rc && *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = 0;
        rc = read_line(r, path, ++number, line, seen);
    }
    rr_free(text);
    return rc;
}

/* ---- everything ----------------------------------------------------------------------------- */

static int read_defaults(struct reader *r)
{
    const struct rr_load *load = r->load;
    size_t i;
    int rc;

    for (i = 0; i < N_TABLE; i++) {
        rc = offer(r, i, RANK_DEFAULT, "default", table[i].def);
        if (rc) return rc;
    }
    for (i = 0; i < load->n_own; i++) {
        rc = rr_option_parse(&load->own[i], load->own[i].def, load->own_fields, &r->store->arena,
                             RR_EINTERNAL, load->own[i].name, r->err);
        if (rc) return rc;
    }
    return RR_OK;
}

static const char *language_of_environment(void)
{
    const char *v = rr_env("LC_ALL");

    if (!v) v = rr_env("LC_MESSAGES");
    if (!v) v = rr_env("LANG");
    return v && strncmp(v, "fr", 2) == 0 && (!v[2] || strchr("_.@", v[2])) ? "fr" : "en";
}

/* $CACHE_DIRECTORY is what systemd gives a service with CacheDirectory=. */
static const char *cache_of_environment(struct rr_arena *arena)
{
    const char *dir = rr_env("CACHE_DIRECTORY"), *tail = "";
    char path[1024];

    if (!dir && (dir = rr_env("XDG_CACHE_HOME"))) tail = "/rerankd";
    if (!dir && (dir = rr_env("HOME"))) tail = "/.cache/rerankd";
    if (!dir || *dir != '/') return ""; /* XDG: a relative path is to be ignored */
    if ((size_t)snprintf(path, sizeof(path), "%s%s", dir, tail) >= sizeof(path)) return "";
    return rr_arena_strndup(arena, path, strlen(path));
}

static const char *or_null(const char *s)
{
    return s[0] ? s : NULL;
}

/* parse: what takes the text of the option called name apart. */
static int resolve_list(struct reader *r, const char *name,
                        int (*parse)(struct rr_settings *s, struct rr_arena *arena, int code,
                                     const char *where, struct rr_error *err))
{
    const struct origin *origin = &r->store->origins[find_option(table, N_TABLE, name)];
    bool flag = origin->rank == RANK_FLAG;
    char place[400];

    snprintf(place, sizeof(place), "%.330s%s%s", origin->where, flag ? "" : ": ",
             flag ? "" : name);
    return parse(r->s, &r->store->arena, flag ? RR_EINVAL : RR_EFORMAT, place, r->err);
}

static int resolve_models(struct reader *r)
{
    int rc = resolve_list(r, "model", rr_models_parse);

    return rc ? rc : resolve_list(r, "model-alias", rr_aliases_parse);
}

static int resolve(struct reader *r)
{
    r->s->redis = (struct rr_shared_cache){
        .url = or_null(r->s->redis_url),
        .password_file = or_null(r->s->redis_password_file),
        .ca_file = or_null(r->s->redis_ca),
        .ttl_seconds = (uint32_t)r->s->redis_ttl,
        .deadline_ns = (uint64_t)(r->s->redis_timeout * 1e9),
    };
    if (strcmp(r->s->lang, "auto") == 0) r->s->lang = language_of_environment();
    if (strcmp(r->s->cache_dir, "auto") == 0)
        r->s->cache_dir = cache_of_environment(&r->store->arena);
    else if (strcmp(r->s->cache_dir, "none") == 0)
        r->s->cache_dir = "";
    if (!r->s->cache_dir) return rr_fail(r->err, RR_ENOMEM, "cache-dir: out of memory");
    return resolve_models(r);
}

/* Keeps the words of the command line, in case the file is to be read again. */
static int keep_words(struct reader *r)
{
    struct rr_arena *arena = &r->store->arena;
    struct rr_load *kept = &r->store->load;
    bool failed;
    int i;

    *kept = *r->load;
    kept->argv = rr_arena_alloc(arena, (size_t)kept->argc + 1, sizeof(*kept->argv));
    kept->rest = rr_arena_alloc(arena, (size_t)kept->argc + 1, sizeof(*kept->rest));
    failed = !kept->argv || !kept->rest;
    for (i = 0; !failed && i < kept->argc; i++) {
        const char *word = r->load->argv[i];

        kept->argv[i] = rr_arena_strndup(arena, word, strlen(word));
        failed = !kept->argv[i];
    }
    return failed ? rr_fail(r->err, RR_ENOMEM, "out of memory for the settings") : RR_OK;
}

int rr_settings_again(const struct rr_settings *old, struct rr_settings *out, struct rr_error *err)
{
    struct rr_load load = ((const struct store *)old->storage)->load;

    return rr_settings_read(out, &load, err);
}

int rr_settings_read(struct rr_settings *s, struct rr_load *load, struct rr_error *err)
{
    struct reader r = { .s = s, .load = load, .err = err };
    int rc;

    memset(s, 0, sizeof(*s));
    load->n_rest = 0;
    load->help = load->print_config = false;
    r.store = rr_calloc(RR_MEM_MISC, 1, sizeof(*r.store));
    if (!r.store) return rr_fail(err, RR_ENOMEM, "out of memory for the settings");
    rr_arena_init(&r.store->arena, RR_MEM_MISC, MAX_STRING_BYTES);
    s->storage = r.store;

    rc = read_defaults(&r); /* first: the sub-command's own have no rank */
    if (!rc) rc = read_flags(&r);
    if (!rc && !load->help) {
        rc = read_environment(&r);
        if (!rc) rc = read_config(&r);
        if (!rc) warn_of_unknown_names();
    }
    if (!rc) rc = keep_words(&r);
    return rc ? rc : resolve(&r);
}

int rr_settings_load(struct rr_settings *s, int argc, char **argv, char **rest, int *n_rest,
                     struct rr_error *err)
{
    struct rr_load load = { .argc = argc, .argv = argv, .rest = rest };
    int rc = rr_settings_read(s, &load, err);

    *n_rest = load.n_rest;
    return rc;
}

void rr_settings_free(struct rr_settings *s)
{
    struct store *store = s->storage;

    if (store) rr_arena_reset(&store->arena);
    rr_free(store);
    memset(s, 0, sizeof(*s));
}

bool rr_settings_french(const struct rr_settings *s)
{
    return s->lang && strcmp(s->lang, "fr") == 0;
}

const char *rr_settings_config(const struct rr_settings *s)
{
    return s->storage ? ((const struct store *)s->storage)->config_read : NULL;
}

const char *rr_settings_origin(const struct rr_settings *s, size_t i)
{
    return ((const struct store *)s->storage)->origins[i].where;
}

int rr_exit_code(int rr_status)
{
    switch (rr_status) {
    case RR_OK: return RR_EXIT_OK;
    case RR_EINVAL: return RR_EXIT_USAGE;
    case RR_EFORMAT:
    case RR_ENOTSUP:
    case RR_ETOOBIG: return RR_EXIT_CONFIG;
    case RR_ENOENT: return RR_EXIT_NOINPUT;
    case RR_EIO:
    case RR_ENOMEM: return RR_EXIT_OSERR;
    case RR_EBUSY:
    case RR_EDEVICE: return RR_EXIT_UNAVAILABLE;
    case RR_ENONFINITE:
    case RR_EINTERNAL: return RR_EXIT_SOFTWARE;
    default: return RR_EXIT_FAILURE;
    }
}

int rr_exit_code_of_data(int rr_status)
{
    return rr_status == RR_EFORMAT ? RR_EXIT_DATA : rr_exit_code(rr_status);
}

int rr_exit_code_of_output(int rr_status)
{
    return rr_status == RR_EIO ? RR_EXIT_IOERR : rr_exit_code(rr_status);
}
