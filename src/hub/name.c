/* SPDX-License-Identifier: Apache-2.0 */
/* name.c - which names of repositories and revisions are taken: a list of what is allowed, so that
 * a name is always a path inside the cache and a part of a URL.  Layer: hub (L5).  Threads: any. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "hub/hub.h"

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Letters, digits, '_', and '-' or '.' inside, never two of these in a row: "--" separates the
 * parts of a folder's name in the cache. */
static bool good_part(const char *s, size_t len)
{
    size_t i;

    if (len == 0 || len >= RR_HUB_NAME) return false;
    for (i = 0; i < len; i++) {
        bool mark = s[i] == '-' || s[i] == '.';

        if (!is_alnum(s[i]) && s[i] != '_' && !mark) return false;
        if (mark && (i == 0 || i + 1 == len)) return false;
        if (mark && s[i + 1] == s[i]) return false;
    }
    return !(len > 4 && memcmp(s + len - 4, ".git", 4) == 0);
}

/* As git takes them, less what is special to shells and URLs: parts between '/' that begin with a
 * letter, a digit or '_'. */
static bool good_revision(const char *s)
{
    size_t i, len = strlen(s);

    if (len == 0 || len >= RR_HUB_REVISION || s[len - 1] == '/' || s[len - 1] == '.') return false;
    for (i = 0; i < len; i++) {
        bool starts = i == 0 || s[i - 1] == '/';

        if (is_alnum(s[i]) || s[i] == '_') continue;
        if (starts || !strchr("-./+", s[i])) return false;
        if (s[i] == '.' && s[i + 1] == '.') return false;
    }
    return true;
}

bool rr_hub_is_commit(const char *revision)
{
    return strlen(revision) == 40 && strspn(revision, "0123456789abcdef") == 40;
}

int rr_hub_parse(struct rr_hub_repo *out, const char *text, const char *revision,
                 struct rr_error *err)
{
    const char *slash = strchr(text, '/'), *at = strchr(text, '@');
    size_t len = at ? (size_t)(at - text) : strlen(text);

    memset(out, 0, sizeof(*out));
    if (!slash || slash >= text + len || !good_part(text, (size_t)(slash - text)) ||
        !good_part(slash + 1, len - (size_t)(slash - text) - 1))
        return rr_fail(
            err, RR_EINVAL,
            "found \"%.120s\", expected ORG/NAME or ORG/NAME@REVISION of a model, such as "
            "BAAI/bge-reranker-v2-m3: letters, digits, _, and single - or . inside, at "
            "most %d each",
            text, RR_HUB_NAME - 1);
    if (!revision || !*revision) revision = at ? at + 1 : "main";
    if (!good_revision(revision))
        return rr_fail(err, RR_EINVAL,
                       "found no name of a revision, expected a branch, tag or commit: letters, "
                       "digits, _, and - . + / inside, at most %d",
                       RR_HUB_REVISION - 1);
    snprintf(out->id, sizeof(out->id), "%.*s", (int)len, text);
    snprintf(out->revision, sizeof(out->revision), "%s", revision);
    return RR_OK;
}
