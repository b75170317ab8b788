/* SPDX-License-Identifier: Apache-2.0 */
/* nets.h - addresses of clients and lists of networks.  Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_NETS_H
#define RR_SERVER_NETS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/attr.h"
#include "rerank_types.h"

enum rr_addr_kind {
    RR_ADDR_NONE, /* not known; in no list */
    RR_ADDR_IP,
    RR_ADDR_UNIX /* a client of a Unix socket */
};

struct rr_addr {
    enum rr_addr_kind kind;
    uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d, so that both spellings are one address */
};

struct rr_net {
    uint8_t ip[16];
    uint8_t bits; /* of the 128 */
};

#define RR_NETS_MAX 64

struct rr_nets {
    unsigned n;
    bool unix_clients; /* the word "unix" is in the list */
    struct rr_net list[RR_NETS_MAX];
};

/* Reads "10.0.0.0/8, 2001:db8::/32, 127.0.0.1, unix"; an address alone is a network of one.  Bits
 * outside the prefix must be 0.  RR_EFORMAT, with where in front, on anything else. */
RR_NODISCARD int rr_nets_parse(struct rr_nets *out, const char *text, const char *where,
                               struct rr_error *err);
bool rr_nets_has(const struct rr_nets *nets, const struct rr_addr *a);

/* One address: IPv4 or IPv6, in brackets or not, with or without ":port".  False: it is not one. */
bool rr_addr_parse(struct rr_addr *out, const char *text, size_t len);
void rr_addr_text(char *out, size_t cap, const struct rr_addr *a); /* "unix", "?" */
void rr_addr_of(struct rr_addr *out, const struct sockaddr *from);

/* Who the client is, behind proxies: goes through a value of X-Forwarded-For from its end, past the
 * addresses in trusted, and leaves the first other one in *client, which is the sender of the
 * header on entry.  What is not an address makes it RR_ADDR_NONE. */
void rr_addr_forwarded(struct rr_addr *client, const struct rr_nets *trusted, const char *value);

#endif
