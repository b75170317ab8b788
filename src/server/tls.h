/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h - certificates for HTTPS; tls.c and secret.c alone know GnuTLS.
 * Layer: server (L6).  Threads: any.
 *
 * One per process: the library's callback gets no pointer of ours. */
#ifndef RR_SERVER_TLS_H
#define RR_SERVER_TLS_H

#include <stdbool.h>

#include "base/attr.h"
#include "rerank_types.h"

struct rr_tls_config {      /* strings are copied */
    const char *cert, *key; /* PEM files: chain with the server's own first; private key */
    const char *client_ca;  /* PEM file: clients must have a certificate of these; "": none */
};

/* Reads and checks the files: RR_EFORMAT or what rr_file_read gives, naming file and reason. */
RR_NODISCARD int rr_tls_open(const struct rr_tls_config *config, struct rr_error *err);

/* Reads them again, for handshakes from now on; on failure all stays as it was. */
RR_NODISCARD int rr_tls_reload(struct rr_error *err);

/* Reloads when one of the files is another one than before.  True: it was tried, *err has code
 * RR_OK or what went wrong. */
bool rr_tls_poll(struct rr_error *err);

void rr_tls_close(void);

/* What the HTTP library asks for the certificate of a handshake (gnutls_certificate_retrieve_
 * function3), and the protocol versions and ciphers. */
extern void (*const rr_tls_callback)(void);
extern const char rr_tls_priorities[];

#endif
