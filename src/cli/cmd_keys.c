/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_keys.c - "rerankd keys": makes, lists and removes API keys.
 * Layer: cli (L6).  Threads: one. */
#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "server/keys.h"

struct own {
    const char *rate, *tokens, *day, *day_tokens, *priority;
};

static const struct rr_option own_options[] = {
    RR_OWN("rate", "", STR, rate, "N", "add: requests per second."),
    RR_OWN("tokens", "", STR, tokens, "N", "add: tokens per second."),
    RR_OWN("day", "", STR, day, "N", "add: requests per day."),
    RR_OWN("day-tokens", "", STR, day_tokens, "N", "add: tokens per day."),
    RR_OWN("priority", "normal", STR, priority, "low|normal|high",
           "add: highest priority that may be asked for."),
};

static int fail(const struct rr_error *err, int rc)
{
    rr_cli_complain("keys", "%s", err->msg);
    return rc == RR_EINVAL ? RR_EXIT_USAGE : rr_exit_code_of_output(rc);
}

/* The limits that the flags ask for. */
static int read_limits(const struct own *own, struct rr_key_limits *limits, struct rr_error *err)
{
    const struct {
        const char *name, *value;
    } given[] = { { "rate", own->rate },
                  { "tokens", own->tokens },
                  { "day", own->day },
                  { "day-tokens", own->day_tokens },
                  { "priority", own->priority } };
    char word[80];
    size_t i;
    int rc;

    memset(limits, 0, sizeof(*limits));
    for (i = 0; i < RR_COUNT(given); i++) {
        if (!given[i].value || !*given[i].value) continue;
        snprintf(word, sizeof(word), "%s=%.50s", given[i].name, given[i].value);
        rc = rr_keys_limit(limits, word, strlen(word), "keys", err);
        if (rc == RR_EFORMAT)
            return rr_fail(
                err, RR_EINVAL, "--%s: found \"%.40s\", expected %s", given[i].name, given[i].value,
                given[i].value == own->priority ? "low, normal or high" : "a number, 0 or more");
        if (rc) return rc;
    }
    return RR_OK;
}

static int add(struct rr_keys *keys, const char *path, const char *name, const struct own *own)
{
    struct rr_key_limits limits;
    struct rr_error err = { 0 };
    char text[RR_KEY_TEXT];
    int rc = read_limits(own, &limits, &err), code;

    if (!rc) rc = rr_keys_add(keys, name, &limits, text, &err);
    if (rc) return fail(&err, rc);
    /* Shown first: nothing shows it again, and one that nobody has seen must not be stored. */
    printf("%s\n", text);
    explicit_bzero(text, sizeof(text));
    if (!rr_cli_flush(&code)) return code ? code : RR_EXIT_IOERR;
    rc = rr_keys_write(keys, path, &err);
    return rc ? fail(&err, rc) : RR_EXIT_OK;
}

static int remove_key(struct rr_keys *keys, const char *path, const char *name)
{
    struct rr_error err = { 0 };
    int rc;

    if (!rr_keys_remove(keys, name)) {
        rr_cli_complain("keys", "there is no key named %.70s; rerankd keys list shows them", name);
        return RR_EXIT_USAGE;
    }
    rc = rr_keys_write(keys, path, &err);
    return rc ? fail(&err, rc) : RR_EXIT_OK;
}

static int list(const struct rr_keys *keys)
{
    struct rr_buf out;
    size_t i;
    int code;

    rr_buf_init(&out, RR_MEM_MISC, (size_t)4 << 20);
    for (i = 0; i < keys->n; i++) {
        rr_buf_puts(&out, keys->list[i].name);
        rr_keys_put_limits(&keys->list[i].limits, &out);
        rr_buf_putc(&out, '\n');
    }
    code = out.failed ? RR_EXIT_OSERR : RR_EXIT_OK;
    if (!out.failed && out.len) fwrite(out.data, 1, out.len, stdout);
    rr_buf_free(&out);
    return code;
}

static int run_keys(const struct rr_settings *settings, const void *own, char **words, int n_words)
{
    const char *path = settings->api_keys_file, *verb = n_words ? words[0] : "";
    const char *name = n_words > 1 ? words[1] : NULL;
    struct rr_error err = { 0 };
    struct rr_keys keys;
    bool adding = strcmp(verb, "add") == 0;
    int rc, code;

    if ((!adding && strcmp(verb, "remove") != 0 && strcmp(verb, "list") != 0) ||
        (strcmp(verb, "list") == 0) == (name != NULL)) {
        rr_cli_complain("keys", "expected add NAME, remove NAME or list");
        return RR_EXIT_USAGE;
    }
    if (!*path) {
        rr_cli_complain("keys", "no file is given; use --api-keys-file FILE");
        return RR_EXIT_USAGE;
    }
    rc = rr_keys_read(&keys, path, &err);
    if (rc == RR_ENOENT && adding) rc = rr_keys_init(&keys, &err);
    if (rc)
        code = fail(&err, rc);
    else if (adding)
        code = add(&keys, path, name, own);
    else
        code = name ? remove_key(&keys, path, name) : list(&keys);
    rr_keys_free(&keys);
    return code;
}

_Static_assert(sizeof(struct own) <= RR_OWN_BYTES, "own options fit");

const struct rr_command rr_cmd_keys = {
    .name = "keys",
    .args = "add NAME | remove NAME | list",
    .summary = "make, remove and list API keys",
    .about = "Works on the file of --api-keys-file, which a running server reads again by itself.\n"
             "add prints the new key, this one time; the file holds its hash only.",
    .sections = "SECURITY",
    .own = own_options,
    .n_own = RR_COUNT(own_options),
    .max_words = 2,
    .run = run_keys,
};
