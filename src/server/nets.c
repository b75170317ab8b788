/* SPDX-License-Identifier: Apache-2.0 */
/* nets.c - see nets.h. */
#include "server/nets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF };

static void from_v4(struct rr_addr *out, const void *four)
{
    out->kind = RR_ADDR_IP;
    memcpy(out->ip, v4_prefix, sizeof(v4_prefix));
    memcpy(out->ip + 12, four, 4);
}

/* A bare address of one family. */
static bool parse_ip(struct rr_addr *out, const char *text, size_t len)
{
    char copy[INET6_ADDRSTRLEN];
    uint8_t four[4];

    if (len == 0 || len >= sizeof(copy)) return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    if (inet_pton(AF_INET, copy, four) == 1) {
        from_v4(out, four);
        return true;
    }
    if (inet_pton(AF_INET6, copy, out->ip) != 1) return false;
    out->kind = RR_ADDR_IP;
    return true;
}

/* ":1" to ":65535", or nothing. */
static bool valid_port(const char *s, size_t len)
{
    size_t i;

    if (len == 0) return true;
    if (s[0] != ':' || len < 2 || len > 6) return false;
    for (i = 1; i < len; i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return true;
}

bool rr_addr_parse(struct rr_addr *out, const char *text, size_t len)
{
    const char *end;
    struct rr_addr a = { 0 };

    *out = a;
    if (len && text[0] == '[') {
        end = memchr(text, ']', len);
        if (!end || !memchr(text, ':', (size_t)(end - text))) return false;
        if (!parse_ip(&a, text + 1, (size_t)(end - text) - 1)) return false;
        if (!valid_port(end + 1, len - (size_t)(end - text) - 1)) return false;
    } else if (!parse_ip(&a, text, len)) {
        end = memchr(text, ':', len); /* of IPv6 without brackets only the address can be meant */
        if (!end || !parse_ip(&a, text, (size_t)(end - text))) return false;
        if (!valid_port(end, len - (size_t)(end - text))) return false;
    }
    *out = a;
    return true;
}

void rr_addr_text(char *out, size_t cap, const struct rr_addr *a)
{
    bool v4 = memcmp(a->ip, v4_prefix, sizeof(v4_prefix)) == 0;

    if (a->kind != RR_ADDR_IP)
        snprintf(out, cap, "%s", a->kind == RR_ADDR_UNIX ? "unix" : "?");
    else if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a->ip + 12 : a->ip, out, (socklen_t)cap))
        out[0] = 0;
}

void rr_addr_of(struct rr_addr *out, const struct sockaddr *from)
{
    memset(out, 0, sizeof(*out));
    if (from->sa_family == AF_INET) {
        from_v4(out, &((const struct sockaddr_in *)(const void *)from)->sin_addr);
    } else if (from->sa_family == AF_INET6) {
        out->kind = RR_ADDR_IP;
        memcpy(out->ip, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
    } else if (from->sa_family == AF_UNIX) {
        out->kind = RR_ADDR_UNIX;
    }
}

/* ---- networks ----------------------------------------------------------------------------- */

static bool in_net(const struct rr_net *net, const uint8_t ip[16])
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;

    if (memcmp(net->ip, ip, whole) != 0) return false;
    return rest == 0 || (net->ip[whole] ^ ip[whole]) >> (8 - rest) == 0;
}

bool rr_nets_has(const struct rr_nets *nets, const struct rr_addr *a)
{
    unsigned i;

    if (a->kind == RR_ADDR_UNIX) return nets->unix_clients;
    if (a->kind != RR_ADDR_IP) return false;
    for (i = 0; i < nets->n; i++)
        if (in_net(&nets->list[i], a->ip)) return true;
    return false;
}

/* "/24" to the bits of the 128; -1: not a number that fits. */
static int parse_bits(const char *s, size_t len, bool v4)
{
    int bits = 0;
    size_t i;

    if (len == 0) return 128;
    if (len < 2 || len > 4) return -1;
    for (i = 1; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        bits = bits * 10 + (s[i] - '0');
    }
    if (bits > (v4 ? 32 : 128)) return -1;
    return v4 ? bits + 96 : bits;
}

static bool host_bits_clear(const struct rr_net *net)
{
    unsigned i;

    for (i = net->bits; i < 128; i++)
        if (net->ip[i / 8] & 0x80 >> i % 8) return false;
    return true;
}

static int parse_net(struct rr_net *out, const char *s, size_t len, const char *where,
                     struct rr_error *err)
{
    const char *slash = memchr(s, '/', len);
    size_t ip_len = slash ? (size_t)(slash - s) : len;
    struct rr_addr a = { 0 };
    int bits;

    if (!parse_ip(&a, s, ip_len))
        return rr_fail(err, RR_EFORMAT,
                       "%s: found \"%.*s\", expected networks such as 10.0.0.0/8 or 2001:db8::/32",
                       where, (int)RR_MIN(len, 60), s);
    bits = parse_bits(s + ip_len, len - ip_len, memchr(s, ':', ip_len) == NULL);
    if (bits < 0)
        return rr_fail(err, RR_EFORMAT, "%s: found \"%.*s\", expected at most /32 (IPv4) or /128",
                       where, (int)RR_MIN(len, 60), s);
    memcpy(out->ip, a.ip, 16);
    out->bits = (uint8_t)bits;
    if (!host_bits_clear(out))
        return rr_fail(
            err, RR_EFORMAT,
            "%s: \"%.*s\" names an address inside its network, expected the network's own", where,
            (int)RR_MIN(len, 60), s);
    return RR_OK;
}

int rr_nets_parse(struct rr_nets *out, const char *text, const char *where, struct rr_error *err)
{
    struct rr_text word;
    int rc;

    memset(out, 0, sizeof(*out));
    while (rr_text_word(&text, &word)) {
        if (rr_text_is(word, "unix")) {
            out->unix_clients = true;
            continue;
        }
        if (out->n == RR_NETS_MAX)
            return rr_fail(err, RR_EFORMAT, "%s: more than %d networks", where, RR_NETS_MAX);
        rc = parse_net(&out->list[out->n], word.data, word.len, where, err);
        if (rc) return rc;
        out->n++;
    }
    return RR_OK;
}

void rr_addr_forwarded(struct rr_addr *client, const struct rr_nets *trusted, const char *value)
{
    size_t end = strlen(value), start;

    while (end && rr_nets_has(trusted, client)) {
        for (start = end; start && value[start - 1] != ','; start--) continue;
        while (start < end && (value[start] == ' ' || value[start] == '\t')) start++;
        while (end > start && (value[end - 1] == ' ' || value[end - 1] == '\t')) end--;
        if (end > start && !rr_addr_parse(client, value + start, end - start)) return;
        while (start && value[start - 1] != ',') start--;
        end = start ? start - 1 : 0;
    }
}
