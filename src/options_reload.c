/* SPDX-License-Identifier: Apache-2.0 */
/* options_reload.c - which settings may change while the program runs.
 * Layer: top (L6).  Threads: one at a time. */
#include <string.h>

#include "options.h"
#include "options_value.h"

static size_t size_of(enum rr_option_type type)
{
    switch (type) {
    case RR_OPTION_STR:
    case RR_OPTION_LIST:
    case RR_OPTION_SECRET: return sizeof(const char *);
    case RR_OPTION_U32: return sizeof(uint32_t);
    case RR_OPTION_SIZE: return sizeof(size_t);
    case RR_OPTION_BOOL: return sizeof(bool);
    case RR_OPTION_SECONDS: return sizeof(double);
    }
    return 0;
}

static bool same(const struct rr_option *o, const void *a, const void *b)
{
    if (rr_option_is_text(o))
        return strcmp(*(const char *const *)a, *(const char *const *)b) == 0;
    return memcmp(a, b, size_of(o->type)) == 0;
}

static bool is_live(const char *name, const char *const *live, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        if (strcmp(live[i], name) == 0) return true;
    return false;
}

bool rr_settings_keep(struct rr_settings *s, const struct rr_settings *old, const char *const *live,
                      size_t n, void (*ignored)(void *user, const char *name), void *user)
{
    size_t n_table, i;
    const struct rr_option *table = rr_settings_table(&n_table);
    bool changed = false;

    for (i = 0; i < n_table; i++) {
        char *ours = (char *)s + table[i].offset;
        const char *theirs = (const char *)old + table[i].offset;

        if (same(&table[i], ours, theirs)) continue;
        if (is_live(table[i].name, live, n)) {
            changed = true;
            continue;
        }
        if (ignored) ignored(user, table[i].name);
        memcpy(ours, theirs, size_of(table[i].type));
    }
    s->model = old->model; /* folders of the hub were found at start */
    s->models = old->models;
    s->n_models = old->n_models;
    return changed;
}
