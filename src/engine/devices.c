/* SPDX-License-Identifier: Apache-2.0 */
/* devices.c - see devices.h. */
#include "engine/devices.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "backend/registry.h"
#include "base/err.h"
#include "base/text.h"
#include "engine/null.h"

static bool has(const struct rr_devices *d, const char *name)
{
    uint32_t i;

    for (i = 0; i < d->n; i++)
        if (strcmp(d->names[i], name) == 0) return true;
    return false;
}

static int add(struct rr_devices *d, const char *name, const char *text, struct rr_error *err)
{
    if (!rr_null_is(name) && has(d, name))
        return rr_fail(err, RR_EINVAL, "devices are \"%s\": %s is there twice, name each once",
                       text, name);
    if (d->n == RR_MAX_DEVICES)
        return rr_fail(err, RR_EINVAL, "devices are \"%s\": at most %d can serve one model", text,
                       RR_MAX_DEVICES);
    memcpy(d->names[d->n++], name, strlen(name) + 1);
    return RR_OK;
}

/* Every device of the backend "NAME:*".  Where there is none it is the first one, whose opening
 * says why and is refused, or left out, as that of one that was named is. */
static int add_all(struct rr_devices *d, char *name, const char *text, struct rr_error *err)
{
    const struct rr_backend *backend;
    struct rr_error missing;
    const char *why = "";
    uint32_t n = 0, i;
    int rc;

    name[strlen(name) - 2] = 0;
    rc = rr_backend_find(&backend, name, &missing);
    if (rc && rc != RR_ENOENT) return rr_fail(err, rc, "%s", missing.msg);
    if (!rc) n = backend->device_count(&why);
    for (i = 0; i < RR_MAX(n, 1u); i++) {
        char each[RR_DEVICE_NAME];

        snprintf(each, sizeof(each), "%.40s:%" PRIu32, name, i);
        rc = add(d, each, text, err);
        if (rc) return rc;
    }
    return RR_OK;
}

/* "cuda" is "cuda:0" and "cpu:0" is "cpu". */
static int add_name(struct rr_devices *d, char name[RR_DEVICE_NAME], const char *text,
                    struct rr_error *err)
{
    size_t len = strlen(name);

    if (!len || strcmp(name, "auto") == 0)
        return rr_fail(err, RR_EINVAL,
                       "devices are \"%s\", expected names such as cuda:0,cuda:1,cpu, or cuda:* "
                       "for all",
                       text);
    if (rr_null_is(name)) return add(d, name, text, err);
    if (rr_text_stem(name, ":*")) return add_all(d, name, text, err);
    if (strcmp(name, "cpu:0") == 0) name[3] = 0;
    if (!strchr(name, ':') && strcmp(name, "cpu") != 0 && len + 3 <= RR_DEVICE_NAME)
        memcpy(name + len, ":0", 3);
    return add(d, name, text, err);
}

/* Length of the first name.  A part with = and no colon is a further number of the null before
 * it. */
static size_t name_length(const char *s)
{
    size_t len = strcspn(s, ","), next;

    while (s[len] == ',' && strncmp(s, "null:", 5) == 0) {
        next = strcspn(s + len + 1, ",");
        if (!memchr(s + len + 1, '=', next) || memchr(s + len + 1, ':', next)) break;
        len += 1 + next;
    }
    return len;
}

int rr_devices_parse(struct rr_devices *out, const char *text, struct rr_error *err)
{
    const char *s = text;
    uint32_t i, n_null = 0;

    memset(out, 0, sizeof(*out));
    for (;;) {
        size_t len = name_length(s), from = strspn(s, " "), to = len;
        char name[RR_DEVICE_NAME] = "";
        int rc;

        while (to > from && s[to - 1] == ' ') to--;
        if (to > from && to - from < sizeof(name)) memcpy(name, s + from, to - from);
        rc = add_name(out, name, text, err);
        if (rc) return rc;
        if (!s[len]) break;
        s += len + 1;
    }
    for (i = 0; i < out->n; i++) n_null += rr_null_is(out->names[i]);
    if (n_null && n_null < out->n)
        return rr_fail(err, RR_EINVAL, "devices are \"%s\": null is a stand-in for all of them",
                       text);
    return RR_OK;
}
