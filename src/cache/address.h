/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - the URL of a Redis or Valkey server, taken apart.  Layer: cache (L1).  Threads: any.
 *
 *   redis://[[user:]password@]host[:port][/db]    rediss:// the same over TLS
 *   unix:/path[?db=N]                             also unix:///path
 * User and password may contain %XX; an IPv6 host stands in brackets. */
#ifndef RR_CACHE_ADDRESS_H
#define RR_CACHE_ADDRESS_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_address {
    bool tls, local;    /* local: host is the path of a Unix socket */
    char host[256];     /* without brackets */
    char port[6];       /* digits; empty when local */
    char user[128];     /* empty: the default user */
    char password[512]; /* empty: none */
    uint32_t db;
};

/* RR_EINVAL says what is wrong without repeating the URL, which may hold a password. */
RR_NODISCARD int rr_address_parse(struct rr_address *out, const char *url, struct rr_error *err);

/* The first line of the file in place of the URL's password.  NULL: none. */
RR_NODISCARD int rr_address_password(struct rr_address *a, const char *path, struct rr_error *err);

/* For the log: where it is, and nothing secret.  Cut to cap. */
void rr_address_name(const struct rr_address *a, char *out, size_t cap);

#endif
