/* SPDX-License-Identifier: Apache-2.0 */
/* cors.h - which web pages may use the server from a browser.
 * Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_CORS_H
#define RR_SERVER_CORS_H

#include <stdbool.h>

#include "base/attr.h"
#include "server/http.h"

/* The list must be origins as browsers send them, "https://app.example.com[:port]", or "*" alone.
 * RR_EFORMAT otherwise. */
RR_NODISCARD int rr_cors_check(const char *origins, struct rr_error *err);

/* Adds the headers for the Origin of x; none when it is not listed.  Never allows credentials that
 * the browser would add by itself: keys are in headers that the page sets.  True: x is a browser's
 * question before the request proper (preflight). */
bool rr_cors_answer(const char *origins, struct rr_exchange *x);

#endif
