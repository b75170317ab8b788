/* SPDX-License-Identifier: Apache-2.0 */
/* options_file.h - the form of a line of the configuration file.
 * Layer: top (L6).  Threads: any.
 *
 *     # a comment
 *     name = value        # a bare value ends at a " #", or at the end of the line
 *     name = "value"      # \" and \\ stand for " and \; 'value' is taken as it is */
#ifndef RR_OPTIONS_FILE_H
#define RR_OPTIONS_FILE_H

#include "base/attr.h"
#include "rerank_types.h"

/* Cuts a line, without its end, in place.  *key NULL: nothing but blanks or a comment.  *value
 * NULL: its quote is not closed, or something follows it.  RR_EFORMAT: not UTF-8, or no "=".  where
 * names file and line for messages. */
RR_NODISCARD int rr_config_line(char *line, const char *where, char **key, char **value,
                                struct rr_error *err);

#endif
