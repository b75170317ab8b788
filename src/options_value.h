/* SPDX-License-Identifier: Apache-2.0 */
/* options_value.h - from the text of one value to a checked field.
 * Layer: top (L6).  Threads: any. */
#ifndef RR_OPTIONS_VALUE_H
#define RR_OPTIONS_VALUE_H

#include "base/arena.h"
#include "options.h"

/* Parses text as option o demands and stores it in the field of the struct at fields; strings are
 * copied into arena.  A refusal is code, with a message that begins with where (the place the value
 * came from) and says what was found and what is allowed. */
RR_NODISCARD int rr_option_parse(const struct rr_option *o, const char *text, void *fields,
                                 struct rr_arena *arena, int code, const char *where,
                                 struct rr_error *err);

/* Is the field a const char *? */
bool rr_option_is_text(const struct rr_option *o);

/* What o allows, for people: "a whole number from 0 to 65535".  Cut to cap. */
void rr_option_allowed(const struct rr_option *o, char *out, size_t cap);

/* The field's value as the user would write it: what rr_option_parse reads back.  Cut to cap. */
void rr_option_value(const struct rr_option *o, const void *fields, char *out, size_t cap);

/* The list in the field with one more text; NULL: out of memory. */
const char *rr_list_join(struct rr_arena *arena, const struct rr_option *o, const void *fields,
                         const char *text);

/* Fill s->models and s->aliases from the texts of their options.  Refusals as above. */
RR_NODISCARD int rr_models_parse(struct rr_settings *s, struct rr_arena *arena, int code,
                                 const char *where, struct rr_error *err);
RR_NODISCARD int rr_aliases_parse(struct rr_settings *s, struct rr_arena *arena, int code,
                                  const char *where, struct rr_error *err);

/* "RERANKD_MAX_LENGTH" for "max-length".  Cut to cap. */
void rr_option_env_name(const struct rr_option *o, char *out, size_t cap);

#endif
