/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h - who may ask, and how much.  Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_AUTH_H
#define RR_SERVER_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_auth_config {                 /* "": not given; strings live as long as the rr_auth */
    const char *api_key, *api_key_file; /* one key for everybody */
    const char *api_keys_file;          /* named ones, keys.h */
    const char *admin_key, *admin_key_file;
};

struct rr_auth;

RR_NODISCARD int rr_auth_open(struct rr_auth **out, const struct rr_auth_config *config,
                              struct rr_error *err);
void rr_auth_close(struct rr_auth *a); /* NULL is allowed */

/* Reads the files again; what each name has used is kept.  On failure the old keys stay. */
RR_NODISCARD int rr_auth_reload(struct rr_auth *a, struct rr_error *err);
/* Reloads when a file is another one than before.  True: it was tried, *err has the outcome. */
bool rr_auth_poll(struct rr_auth *a, struct rr_error *err);

enum rr_auth_need { RR_NEED_NOTHING, RR_NEED_KEY, RR_NEED_ADMIN };

enum rr_auth_answer {
    RR_AUTH_YES,
    RR_AUTH_MISSING,    /* a key is needed, none was given */
    RR_AUTH_WRONG,      /* a key was given that is none of ours */
    RR_AUTH_NOT_FOR_IT, /* an API key where the admin's is needed */
    RR_AUTH_SPENT       /* right, but its limit is reached */
};

struct rr_rate { /* what a key may still do, as replies say it */
    bool known;
    bool daily;                  /* it is of a day */
    uint64_t limit, left, reset; /* requests; reset: seconds since 1970 */
};

struct rr_grant {
    char name[64];        /* of the key; "": none was needed */
    uint64_t tenant;      /* 0: keys are not asked for */
    int max_priority;     /* enum rr_priority */
    const char *limit;    /* name of the limit that is reached; static; NULL: none */
    uint32_t retry_after; /* seconds until it is not, at least 1 */
    struct rr_rate rate;
};

/* key: as the client gave it, NULL: it gave none.  counted: the request uses up limits. */
enum rr_auth_answer rr_auth_check(struct rr_auth *a, const char *key, enum rr_auth_need need,
                                  bool counted, struct rr_grant *grant);

/* Tokens that were computed for a tenant. */
void rr_auth_charge(struct rr_auth *a, uint64_t tenant, uint64_t tokens);

/* A request of a tenant was counted, but the server had no room for it: its day has one more.  Its
 * second has not, since those who try again at once are a load, too. */
void rr_auth_forgive(struct rr_auth *a, uint64_t tenant);

bool rr_auth_has_keys(struct rr_auth *a);  /* API keys are asked for */
bool rr_auth_has_admin(struct rr_auth *a); /* the admin's key is known */

/* The key inside a value of Authorization: "Bearer K", "Basic base64(anyone:K)", or K alone, as
 * some clients send it.  False: there is none, or it does not fit. */
bool rr_auth_extract(char *out, size_t cap, const char *authorization);

#endif
