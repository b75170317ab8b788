/* SPDX-License-Identifier: Apache-2.0 */
/* plan_offers.c - machines to choose from: a table, or a file.  Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "cli/plan.h"

#define MAX_OFFERS_FILE ((size_t)1 << 20)

/* Prices are ragfab's guide's (January 2025), in euros.  So are the rates: 50 requests of 20 a
 * second and 50 ms for one, the low ends of what it promises for a T4.  It has no figures for a
 * V100, which stands here as if it were no quicker.  deploy/offers.json is this table to edit. */
const struct rr_plan_offer rr_plan_guide[] = {
    { "Hetzner Cloud, T4", true, 40, 1000, 30 },
    { "OVHcloud, V100", true, 100, 1000, 30 },
    { "Scaleway, V100", true, 80, 1000, 30 },
    { "AWS g4dn.xlarge, T4", true, 120, 1000, 30 },
    { "Azure NC4as T4 v3, T4", true, 150, 1000, 30 },
};
const size_t rr_plan_n_guide = RR_COUNT(rr_plan_guide);

/* 5 requests of 20 a second, 200 ms each: the guide's figures, which it did not measure either. */
const struct rr_plan_offer rr_plan_as_now = { "as now, Python on a CPU", false, 0, 100, 0 };

static int read_offer(struct rr_plan_offer *o, const json_t *v, const char *where,
                      struct rr_error *err)
{
    struct rr_text name = { NULL, 0 };
    float price = -1, rate = 0, fixed = 0;
    int rc;

    memset(o, 0, sizeof(*o));
    if (!json_is_object(v))
        return rr_fail(err, RR_EFORMAT, "%s: found %s, expected an object", where,
                       rr_json_type_name(v));
    rc = rr_json_text(v, where, "name", &name, err);
    if (!rc) rc = rr_json_bool(v, where, "gpu", &o->gpu, err);
    if (!rc) rc = rr_json_f32(v, where, "price_per_month", &price, err);
    if (!rc) rc = rr_json_f32(v, where, "pairs_per_s", &rate, err);
    if (!rc) rc = rr_json_f32(v, where, "fixed_ms", &fixed, err);
    if (rc) return rc;
    if (!name.len || !(price >= 0) || !(rate > 0) || !(fixed >= 0))
        return rr_fail(err, RR_EFORMAT,
                       "%s: expected \"name\", \"price_per_month\" (0 or more), \"pairs_per_s\" "
                       "(more than 0), and \"fixed_ms\", if it is there, 0 or more",
                       where);
    snprintf(o->name, sizeof(o->name), "%.*s", (int)RR_MIN(name.len, RR_PLAN_NAME - 1), name.data);
    o->price = (double)price;
    o->pairs_per_s = (double)rate;
    o->fixed_ms = (double)fixed;
    return RR_OK;
}

int rr_plan_offers_read(struct rr_plan_offer *offers, size_t *n, const char *path,
                        struct rr_error *err)
{
    struct rr_error why = { 0 };
    json_t *list = NULL;
    char *text, where[300];
    size_t len, i;
    int rc = rr_file_read(&text, &len, path, MAX_OFFERS_FILE, RR_MEM_JSON, err);

    *n = 0;
    if (rc) return rc;
    rc = rr_json_parse(&list, (struct rr_text){ text, len }, 0, RR_JSON_DUP_REJECT, &why);
    rr_free(text);
    if (rc) return rr_fail(err, rc, "%s: %s", path, why.msg);
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > RR_PLAN_OFFERS)
        rc = rr_fail(err, RR_EFORMAT, "%s: expected an array of 1 to %d offers", path,
                     RR_PLAN_OFFERS);
    for (i = 0; !rc && i < json_array_size(list); i++) {
        snprintf(where, sizeof(where), "%.250s: offer %zu", path, i + 1);
        rc = read_offer(&offers[i], json_array_get(list, i), where, err);
        *n += rc == RR_OK;
    }
    json_decref(list);
    return rc;
}
