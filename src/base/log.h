/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one process-wide sink for log lines.  Layer: base (L0).  Threads: any.
 * Lines never contain request text, keys or tokens. */
#ifndef RR_BASE_LOG_H
#define RR_BASE_LOG_H

#include <stdbool.h>

#include "base/attr.h"

/* Same values as the public enum rr_log_level. */
enum rr_level { RR_ERROR, RR_WARN, RR_INFO, RR_DEBUG };

typedef void rr_log_sink(void *user, int level, const char *line);

/* sink NULL: "level: line" to stderr. */
void rr_log_set(rr_log_sink *sink, void *user, int max_level);
bool rr_log_on(enum rr_level level);
void rr_log(enum rr_level level, const char *fmt, ...) RR_PRINTF(2, 3);

#endif
