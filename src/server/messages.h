/* SPDX-License-Identifier: Apache-2.0 */
/* messages.h - the lines of messages.def, and where log lines go.
 * Layer: server (L6).  Threads: any once rr_console_open has returned. */
#ifndef RR_SERVER_MESSAGES_H
#define RR_SERVER_MESSAGES_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/metrics.h"

enum rr_message {
#define RR_MESSAGE(id, english, french) RR_SAY_##id,
#include "server/messages.def"
#undef RR_MESSAGE
    RR_MESSAGES
};

/* Appends the message with its arguments put in. */
void rr_message_write(struct rr_buf *out, enum rr_message id, bool french, const char *const *args,
                      unsigned n_args);

/* Where lines go: stderr, as text with time and level, or as one JSON object each. */
struct rr_console {
    bool json, french;
    int level;
    struct rr_metrics *metrics; /* counts lines; may be NULL */
};

/* Makes the process log through c, which must live until rr_console_close. */
void rr_console_open(struct rr_console *c);
void rr_console_close(void);

/* Logs a message.  args: [n]. */
void rr_say(const struct rr_console *c, enum rr_level level, enum rr_message id,
            const char *const *args, unsigned n);
#define RR_SAY(console, level, id, ...) \
    rr_say(console, level, RR_SAY_##id, (const char *const[]){ __VA_ARGS__ }, \
           sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

/* One request in the log.  In JSON the numbers are fields of their own. */
struct rr_access {
    const char *id, *dialect, *problem; /* problem: NULL when it was answered with 200 */
    unsigned status;
    size_t documents, results;
    unsigned long long tokens;
    double ms, queue_ms, compute_ms;
};
void rr_console_access(const struct rr_console *c, const struct rr_access *a);

/* Writes a line as it is, for people to copy; in JSON as a message. */
void rr_console_plain(const struct rr_console *c, const char *line);

/* A number as text in one of a few buffers of the calling thread. */
const char *rr_num(unsigned long long v);
const char *rr_num1(double v); /* one decimal, none from 100 on */

#endif
