/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h - docs/openapi.json and the page made of it.  Layer: server (L6).  Threads: any. */
#ifndef RR_SERVER_PAGES_H
#define RR_SERVER_PAGES_H

#include <stddef.h>

extern const char rr_page_openapi[], rr_page_docs[];
extern const size_t rr_page_openapi_len, rr_page_docs_len;

#endif
