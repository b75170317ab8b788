/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c - see wire.h.  Sockets are non-blocking; every wait is a poll up to the deadline. */
#include "cache/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct rr_wire_tls {
    gnutls_certificate_credentials_t credentials;
};

struct rr_wire {
    int fd;
    gnutls_session_t session; /* NULL: plain */
};

/* ---- credentials ---------------------------------------------------------------------------- */

int rr_wire_tls_open(struct rr_wire_tls **out, const char *ca_file, struct rr_error *err)
{
    struct rr_wire_tls *t = rr_calloc(RR_MEM_CACHE, 1, sizeof(*t));
    int rc;

    *out = NULL;
    if (!t || gnutls_certificate_allocate_credentials(&t->credentials) < 0) {
        rr_free(t);
        return rr_fail(err, RR_ENOMEM, "out of memory for TLS");
    }
    rc = ca_file
             ? gnutls_certificate_set_x509_trust_file(t->credentials, ca_file, GNUTLS_X509_FMT_PEM)
             : gnutls_certificate_set_x509_system_trust(t->credentials);
    if (rc <= 0) {
        rr_wire_tls_close(t);
        return rr_fail(err, RR_EINVAL,
                       "%s: no certificates of authorities in it (%s), PEM expected",
                       ca_file ? ca_file : "the system's trust store",
                       rc ? gnutls_strerror(rc) : "it is empty");
    }
    *out = t;
    return RR_OK;
}

void rr_wire_tls_close(struct rr_wire_tls *t)
{
    if (!t) return;
    gnutls_certificate_free_credentials(t->credentials);
    rr_free(t);
}

/* ---- waiting -------------------------------------------------------------------------------- */

static int wait_for(int fd, short events, uint64_t deadline, struct rr_error *err)
{
    struct pollfd p = { .fd = fd, .events = events };
    uint64_t now = rr_now_ns(), left = now < deadline ? deadline - now : 0;
    struct timespec t = { (time_t)(left / RR_SECOND), (long)(left % RR_SECOND) };
    int n = ppoll(&p, 1, &t, NULL);

    if (n > 0 || (n < 0 && errno == EINTR)) return RR_OK;
    if (n < 0) return rr_fail(err, RR_EIO, "%s", strerror(errno));
    return rr_fail(err, RR_ETIMEDOUT, "no answer in time");
}

/* ---- connecting ----------------------------------------------------------------------------- */

static int connect_to(int *out, const struct sockaddr *to, socklen_t len, uint64_t deadline,
                      struct rr_error *err)
{
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, why = 0;
    socklen_t why_len = sizeof(why);
    int rc = RR_OK;

    if (fd < 0) return rr_fail(err, RR_EIO, "no socket: %s", strerror(errno));
    if (connect(fd, to, len) < 0) {
        why = errno;
        if (why == EINPROGRESS) {
            rc = wait_for(fd, POLLOUT, deadline, err);
            if (!rc && getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &why_len) < 0) why = errno;
        }
        if (!rc && why) rc = rr_fail(err, RR_EIO, "%s", strerror(why));
    }
    if (rc) {
        close(fd);
        return rc;
    }
    if (to->sa_family != AF_UNIX) {
        /* Best effort: a small request must not wait for the previous one's acknowledgement, and a
         * peer that vanished must be noticed some day. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    *out = fd;
    return RR_OK;
}

static int connect_local(int *out, const struct rr_address *to, uint64_t deadline,
                         struct rr_error *err)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };

    memcpy(un.sun_path, to->host, RR_MIN(sizeof(un.sun_path) - 1, strlen(to->host)));
    return connect_to(out, (const struct sockaddr *)&un, sizeof(un), deadline, err);
}

static int connect_network(int *out, const struct rr_address *to, uint64_t deadline,
                           struct rr_error *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_ADDRCONFIG },
                    *all = NULL, *a;
    int rc = getaddrinfo(to->host, to->port, &hints, &all);

    if (rc) {
        hints.ai_flags = 0; /* a machine with the loopback alone has no "configured" address */
        rc = getaddrinfo(to->host, to->port, &hints, &all);
    }
    if (rc) return rr_fail(err, RR_EIO, "the host's name: %s", gai_strerror(rc));
    rc = rr_fail(err, RR_EIO, "the host has no address");
    for (a = all; a && rc; a = a->ai_next)
        rc = connect_to(out, a->ai_addr, a->ai_addrlen, deadline, err);
    freeaddrinfo(all);
    return rc;
}

static int handshake(struct rr_wire *w, const struct rr_address *to, struct rr_wire_tls *tls,
                     uint64_t deadline, struct rr_error *err)
{
    unsigned char address[sizeof(struct in6_addr)];
    bool named =
        inet_pton(AF_INET, to->host, address) != 1 && inet_pton(AF_INET6, to->host, address) != 1;
    int rc = gnutls_init(&w->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

    if (rc >= 0) rc = gnutls_set_default_priority(w->session);
    if (rc >= 0) rc = gnutls_credentials_set(w->session, GNUTLS_CRD_CERTIFICATE, tls->credentials);
    if (rc >= 0 && named)
        rc = gnutls_server_name_set(w->session, GNUTLS_NAME_DNS, to->host, strlen(to->host));
    if (rc < 0) return rr_fail(err, RR_EIO, "TLS: %s", gnutls_strerror(rc));
    gnutls_session_set_verify_cert(w->session, to->host, 0);
    gnutls_transport_set_int(w->session, w->fd);
    while ((rc = gnutls_handshake(w->session)) < 0 && !gnutls_error_is_fatal(rc)) {
        short events = gnutls_record_get_direction(w->session) ? POLLOUT : POLLIN;

        if (wait_for(w->fd, events, deadline, err)) return RR_ETIMEDOUT;
    }
    if (rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        return rr_fail(err, RR_EIO,
                       "the server's certificate is not valid for this host or not "
                       "signed by an authority that is trusted here");
    return rc < 0 ? rr_fail(err, RR_EIO, "TLS: %s", gnutls_strerror(rc)) : RR_OK;
}

int rr_wire_open(struct rr_wire **out, const struct rr_address *to, struct rr_wire_tls *tls,
                 uint64_t deadline, struct rr_error *err)
{
    struct rr_wire *w = rr_calloc(RR_MEM_CACHE, 1, sizeof(*w));
    int rc;

    *out = NULL;
    if (!w) return rr_fail(err, RR_ENOMEM, "out of memory for a connection");
    w->fd = -1;
    rc = to->local ? connect_local(&w->fd, to, deadline, err)
                   : connect_network(&w->fd, to, deadline, err);
    if (!rc && to->tls) rc = handshake(w, to, tls, deadline, err);
    if (rc) {
        rr_wire_close(w);
        return rc;
    }
    *out = w;
    return RR_OK;
}

void rr_wire_close(struct rr_wire *w)
{
    if (!w) return;
    if (w->session) gnutls_deinit(w->session);
    if (w->fd >= 0) close(w->fd);
    rr_free(w);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

/* Over TLS bytes may come unasked: session tickets. */
bool rr_wire_quiet(const struct rr_wire *w)
{
    struct pollfd p = { .fd = w->fd, .events = POLLRDHUP };

    if (!w->session) p.events |= POLLIN;
    return poll(&p, 1, 0) == 0;
}

int rr_wire_send(struct rr_wire *w, const char *data, size_t len, uint64_t deadline,
                 struct rr_error *err)
{
    size_t sent = 0;

    while (sent < len) {
        ssize_t n;
        bool again;

        if (w->session) {
            n = gnutls_record_send(w->session, data + sent, len - sent);
            again = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
        } else {
            n = send(w->fd, data + sent, len - sent, MSG_NOSIGNAL);
            again = n < 0 && (errno == EAGAIN || errno == EINTR);
        }
        if (n > 0) {
            sent += (size_t)n;
        } else if (!again) {
            return rr_fail(err, RR_EIO, "the connection broke");
        } else {
            int rc = wait_for(w->fd, POLLOUT, deadline, err);

            if (rc) return rc;
        }
    }
    return RR_OK;
}

int rr_wire_receive(struct rr_wire *w, char *data, size_t cap, size_t *len, uint64_t deadline,
                    struct rr_error *err)
{
    for (;;) {
        ssize_t n;
        bool again;
        int rc;

        if (w->session) {
            n = gnutls_record_recv(w->session, data, cap);
            again = n < 0 && !gnutls_error_is_fatal((int)n);
        } else {
            n = recv(w->fd, data, cap, 0);
            again = n < 0 && (errno == EAGAIN || errno == EINTR);
        }
        if (n > 0) {
            *len = (size_t)n;
            return RR_OK;
        }
        if (!again) return rr_fail(err, RR_EIO, "the server closed the connection");
        rc = wait_for(w->fd, POLLIN, deadline, err);
        if (rc) return rc;
    }
}
