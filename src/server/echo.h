/* SPDX-License-Identifier: Apache-2.0 */
/* echo.h - writing JSON trees back to the client.  Layer: server (L6).  Threads: pure. */
#ifndef RR_SERVER_ECHO_H
#define RR_SERVER_ECHO_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

/* Appends v.  spaced: one space after colons and commas.  Numbers read back as the same values. */
void rr_echo_json(struct rr_buf *out, const json_t *v, bool spaced);

/* Appends the members of an object without the braces, leaving out the keys in skip (ended by
 * NULL).  Returns whether anything was written. */
bool rr_echo_members(struct rr_buf *out, const json_t *obj, const char *const *skip, bool spaced);

#endif
