/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h - what a browser may be shown: docs/openapi.json, the page made of it, and the pages of
 * src/server/ui.  Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_PAGES_H
#define RR_SERVER_PAGES_H

#include <stddef.h>

struct rr_page {
    const char *data;
    size_t len;
    const char *type; /* Content-Type */
    const char *etag; /* with its quotes; of the content */
    const char *csp;  /* Content-Security-Policy; NULL: not a page */
};

extern const struct rr_page rr_page_openapi, rr_page_docs, rr_page_playground, rr_page_status;

#endif
