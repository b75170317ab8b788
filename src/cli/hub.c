/* SPDX-License-Identifier: Apache-2.0 */
/* hub.c - the hub as the environment describes it; --model ORG/NAME.  Layer: cli (L6).
 * Threads: one. */
#include "cli/hub.h"

#include <signal.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/hub_progress.h"
#include "rerank.h"

#define MAX_TOKEN_FILE 4096

/* ---- environment ---------------------------------------------------------------------------- */

static bool is_true(const char *name)
{
    static const char *const words[] = { "1", "ON", "YES", "TRUE" };
    const char *v = rr_env(name);
    size_t i;

    for (i = 0; v && i < RR_COUNT(words); i++) {
        if (strcasecmp(v, words[i]) == 0) return true;
    }
    return false;
}

/* The value of the variable that *at, behind a $, names, with or without braces; *at is then behind
 * it.  NULL: none, and *at stays. */
static const char *variable(const char **at)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    bool braces = **at == '{';
    size_t len = braces ? strcspn(*at, "}") - 1 : strspn(*at, letters);
    const char *value;
    char name[128];

    if (braces && !strchr(*at, '}')) return NULL;
    if ((size_t)snprintf(name, sizeof(name), "%.*s", (int)RR_MIN(len, sizeof(name)),
                         *at + braces) >= sizeof(name))
        return NULL;
    value = *name ? rr_env(name) : NULL;
    if (value) *at += len + (braces ? 2 : 0);
    return value;
}

/* path + tail, with ~ as the home folder and values of variables; what does not name one stays. */
static bool expand(const char *path, const char *tail, char *out, size_t cap)
{
    const char *home = rr_env("HOME");
    bool tilde = path[0] == '~' && (path[1] == '/' || !path[1]) && home;
    size_t len = (size_t)snprintf(out, cap, "%s", tilde ? home : "");

    for (path += tilde; *path && len < cap;) {
        const char *value = NULL, *rest = path + 1;

        if (*path == '$') value = variable(&rest);
        len += (size_t)snprintf(out + len, cap - len, value ? "%s" : "%.1s", value ? value : path);
        path = rest;
    }
    if (len < cap) len += (size_t)snprintf(out + len, cap - len, "%s", tail);
    while (len > 1 && len < cap && out[len - 1] == '/') out[--len] = 0;
    return len < cap;
}

/* HF_HOME, or what it is by default; "" without a home. */
static bool home_folder(const char *tail, char *out, size_t cap)
{
    const char *v = rr_env("HF_HOME");
    char longer[64];

    if (v) return expand(v, tail, out, cap);
    v = rr_env("XDG_CACHE_HOME");
    snprintf(longer, sizeof(longer), "%s/huggingface%s", v ? "" : "/.cache", tail);
    if (!v) v = rr_env("HOME");
    if (!v) {
        out[0] = 0;
        return true;
    }
    return expand(v, longer, out, cap);
}

static int find_cache(struct rr_cli_hub *h, struct rr_error *err)
{
    const char *v = rr_env("HF_HUB_CACHE");
    bool good;

    if (!v) v = rr_env("HUGGINGFACE_HUB_CACHE");
    good = v ? expand(v, "", h->cache, sizeof(h->cache))
             : home_folder("/hub", h->cache, sizeof(h->cache));
    if (!good) return rr_fail(err, RR_EFORMAT, "HF_HUB_CACHE or HF_HOME: the path is too long");
    if (!h->cache[0])
        return rr_fail(err, RR_EFORMAT, "no home folder: set HF_HOME, or HOME, for the cache");
    return RR_OK;
}

/* Printable ASCII only: it goes into a header. */
static bool good_token(const char *s)
{
    for (; *s; s++) {
        if (*s <= 0x20 || *s >= 0x7F) return false;
    }
    return true;
}

static int take_token(struct rr_cli_hub *h, const char *text, const char *where,
                      struct rr_error *err)
{
    size_t len;

    text += strspn(text, " \t\r\n");
    len = strlen(text);
    while (len && strchr(" \t\r\n", text[len - 1])) len--;
    if (len == 0) return RR_OK;
    snprintf(h->token, sizeof(h->token), "%.*s", (int)RR_MIN(len, sizeof(h->token)), text);
    if (len >= sizeof(h->token) || !good_token(h->token))
        return rr_fail(err, RR_EFORMAT, "%s: found no token, expected one word such as hf_...",
                       where);
    h->hub.token = h->token;
    return RR_OK;
}

static int find_token(struct rr_cli_hub *h, struct rr_error *err)
{
    const char *v = rr_env("HF_TOKEN");
    char path[RR_HUB_PATH], *text;
    size_t len;
    int rc;

    if (is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return RR_OK;
    if (!v) v = rr_env("HUGGING_FACE_HUB_TOKEN");
    if (v) return take_token(h, v, "HF_TOKEN", err);
    v = rr_env("HF_TOKEN_PATH");
    if (!(v ? expand(v, "", path, sizeof(path)) : home_folder("/token", path, sizeof(path))) ||
        !path[0] || !rr_file_exists(path))
        return RR_OK;
    rc = rr_file_read(&text, &len, path, MAX_TOKEN_FILE, RR_MEM_MISC, err);
    if (rc) return rc;
    rc = take_token(h, text, path, err);
    memset(text, 0, len);
    rr_free(text);
    return rc;
}

static int find_endpoint(struct rr_cli_hub *h, struct rr_error *err)
{
    const char *v = rr_env("HF_ENDPOINT");
    size_t len;

    if (!v) v = "https://huggingface.co";
    for (len = strlen(v); len && v[len - 1] == '/'; len--) continue;
    if ((strncmp(v, "https://", 8) != 0 && strncmp(v, "http://", 7) != 0) ||
        strpbrk(v, " \t\r\n@?#\\\"") || len >= sizeof(h->endpoint))
        return rr_fail(err, RR_EFORMAT,
                       "HF_ENDPOINT: found no address of a hub, expected https://HOST or "
                       "https://HOST/PATH");
    snprintf(h->endpoint, sizeof(h->endpoint), "%.*s", (int)len, v);
    return RR_OK;
}

/* --ca-file (or SSL_CERT_FILE, its second name), else what curl and requests have for it. */
static int find_ca_file(struct rr_cli_hub *h, const struct rr_settings *settings,
                        struct rr_error *err)
{
    h->hub.ca_file = settings->ca_file[0] ? settings->ca_file : rr_env("CURL_CA_BUNDLE");
    if (!h->hub.ca_file) h->hub.ca_file = rr_env("REQUESTS_CA_BUNDLE");
    if (!h->hub.ca_file || rr_file_exists(h->hub.ca_file)) return RR_OK;
    return rr_fail(err, RR_ENOENT, "ca-file: %.300s: no such file", h->hub.ca_file);
}

int rr_cli_hub_open(struct rr_cli_hub *h, const struct rr_settings *settings, struct rr_error *err)
{
    int rc;

    memset(h, 0, sizeof(*h));
    snprintf(h->agent, sizeof(h->agent), "rerankd/%s", rr_version());
    h->hub = (struct rr_hub){ .cache = h->cache,
                              .endpoint = h->endpoint,
                              .agent = h->agent,
                              .connections = 4,
                              .retries = 5,
                              .timeout = 30.0,
                              .user = h };
    h->offline =
        is_true("HF_HUB_OFFLINE") || (!rr_env("HF_HUB_OFFLINE") && is_true("TRANSFORMERS_OFFLINE"));
    h->french = rr_settings_french(settings);
    rc = find_cache(h, err);
    if (!rc) rc = find_token(h, err);
    if (!rc) rc = find_endpoint(h, err);
    return rc ? rc : find_ca_file(h, settings, err);
}

/* ---- signals -------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    interrupted = signal;
}

static bool stopped(void *user)
{
    (void)user;
    return interrupted != 0;
}

static void take_signals(struct rr_cli_hub *h, struct sigaction old[2])
{
    struct sigaction ours = { .sa_handler = on_signal };

    interrupted = 0;
    sigaction(SIGINT, &ours, &old[0]);
    sigaction(SIGTERM, &ours, &old[1]);
    h->hub.stopped = stopped;
    rr_hub_progress_begin(h);
}

static void give_signals(struct rr_cli_hub *h, const struct sigaction old[2])
{
    rr_hub_progress_end(h);
    sigaction(SIGINT, &old[0], NULL);
    sigaction(SIGTERM, &old[1], NULL);
}

int rr_cli_hub_list(struct rr_cli_hub *h, const struct rr_hub_repo *repo,
                    struct rr_hub_listing *listing, struct rr_error *err)
{
    struct sigaction old[2];
    int rc;

    h->id = repo->id;
    take_signals(h, old);
    rc = rr_hub_list(&h->hub, repo, listing, err);
    give_signals(h, old);
    return rc;
}

int rr_cli_hub_fetch(struct rr_cli_hub *h, const struct rr_hub_repo *repo,
                     struct rr_hub_listing *listing, char dir[RR_HUB_PATH], struct rr_error *err)
{
    struct sigaction old[2];
    int rc;

    h->id = repo->id;
    take_signals(h, old);
    rc = rr_hub_fetch(&h->hub, repo, listing, dir, err);
    give_signals(h, old);
    return rc;
}

int rr_cli_hub_exit(const struct rr_cli_hub *h, int rc)
{
    if (rc == RR_ECANCELED) return 128 + (interrupted ? (int)interrupted : SIGINT);
    if (h->hub.denied) return RR_EXIT_NOPERM;
    if (h->hub.temporary) return RR_EXIT_TEMPFAIL;
    return rr_exit_code(rc);
}

/* ---- --model ORG/NAME ----------------------------------------------------------------------- */

static int fetch_model(struct rr_cli_hub *h, const struct rr_hub_repo *repo, char dir[RR_HUB_PATH],
                       struct rr_error *err)
{
    struct rr_hub_listing listing;
    int rc = rr_cli_hub_list(h, repo, &listing, err);

    if (!rc) rc = rr_cli_hub_fetch(h, repo, &listing, dir, err);
    rr_hub_listing_free(&listing);
    return rc;
}

static int find_model(struct rr_cli_hub *h, const struct rr_hub_repo *repo, bool download,
                      char dir[RR_HUB_PATH], struct rr_error *err)
{
    int rc = rr_hub_find(&h->hub, repo, dir, err);

    if (rc != RR_ENOENT) return rc;
    if (!download) {
        dir[0] = 0; /* doctor says itself what is missing */
        return RR_OK;
    }
    if (h->offline)
        return rr_fail(err, RR_ENOENT,
                       "not complete in the cache %.200s, and HF_HUB_OFFLINE forbids to fetch it; "
                       "run rerankd pull %s where there is a network",
                       h->cache, repo->id);
    return fetch_model(h, repo, dir, err);
}

/* An exit code. */
static int resolve(const struct rr_command *c, const struct rr_settings *settings,
                   struct rr_model_spec *m, char dir[RR_HUB_PATH])
{
    static struct rr_cli_hub h;
    struct rr_hub_repo repo;
    struct rr_error err = { 0 };
    int rc;

    if (!m->path[0] || rr_file_exists(m->path) || rr_text_stem(m->path, ".gguf") ||
        rr_hub_parse(&repo, m->path, NULL, &err))
        return RR_EXIT_OK; /* a folder or file, or what opening it has an error for */
    rc = rr_cli_hub_open(&h, settings, &err);
    if (!rc) rc = find_model(&h, &repo, c != &rr_cmd_doctor, dir, &err);
    if (!rc) {
        m->dir = dir[0] ? dir : NULL;
        return RR_EXIT_OK;
    }
    if (rc == RR_ECANCELED)
        rr_cli_complain(c->name, "%s", err.msg);
    else
        rr_cli_complain(c->name, "model %s is no folder here; on the hub: %s", m->path, err.msg);
    return rr_cli_hub_exit(&h, rc);
}

int rr_cli_hub_models(const struct rr_command *c, struct rr_settings *settings)
{
    static char dirs[RR_MAX_MODELS][RR_HUB_PATH];
    size_t n = c == &rr_cmd_serve ? settings->n_models : 1, i;
    int code = RR_EXIT_OK;

    if (c->sections && !strstr(c->sections, "MODEL")) return RR_EXIT_OK; /* loads no model */
    for (i = 0; i < n && !code; i++) code = resolve(c, settings, &settings->models[i], dirs[i]);
    return code;
}

int rr_cli_hub_path(const struct rr_command *c, const struct rr_settings *settings,
                    const char **path, char dir[RR_HUB_PATH])
{
    struct rr_model_spec m = { .path = *path };
    int code = resolve(c, settings, &m, dir);

    if (m.dir) *path = m.dir;
    return code;
}
