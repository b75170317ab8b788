/* SPDX-License-Identifier: Apache-2.0 */
/* messages.h - the lines of messages.def, and where log lines go.
 * Layer: server (L6).  Threads: any once rr_console_open has returned. */
#ifndef RR_SERVER_MESSAGES_H
#define RR_SERVER_MESSAGES_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/metrics.h"
#include "server/outlet.h"

enum rr_message {
#define RR_MESSAGE(id, english, french) RR_SAY_##id,
#include "server/messages.def"
#undef RR_MESSAGE
    RR_MESSAGES
};

/* Appends the message with its arguments put in. */
void rr_message_write(struct rr_buf *out, enum rr_message id, bool french, const char *const *args,
                      unsigned n_args);

/* One JSON object or one set of logfmt pairs a line, or plain text with time and level. */
enum rr_log_format { RR_LOG_FORMAT_TEXT, RR_LOG_FORMAT_JSON, RR_LOG_FORMAT_LOGFMT };

enum { RR_LINE_ACCESS = RR_DEBUG + 1, RR_LINE_KINDS }; /* the levels, and requests */

/* Where lines go: stderr. */
struct rr_console {
    enum rr_log_format format;
    bool french;
    struct rr_metrics *metrics; /* counts lines; may be NULL */
    struct rr_outlet outlet;
    _Atomic uint32_t rate;                 /* lines a second of each kind; 0: any number */
    pthread_mutex_t lock;                  /* of limits */
    struct rr_limit limits[RR_LINE_KINDS]; /* lock */
};

/* Makes the process log through c, which must live until rr_console_close. */
void rr_console_open(struct rr_console *c, const char *format, const char *level, uint32_t rate);
void rr_console_level(struct rr_console *c, const char *level, uint32_t rate);
void rr_console_close(struct rr_console *c);

/* Logs a message.  args: [n]. */
void rr_say(const struct rr_console *c, enum rr_level level, enum rr_message id,
            const char *const *args, unsigned n);
#define RR_SAY(console, level, id, ...) \
    rr_say(console, level, RR_SAY_##id, (const char *const[]){ __VA_ARGS__ }, \
           sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

/* A line made of fields, for those who have more to say than a message: begin, fields, end.  In
 * text only the message shows.  False: not wanted, or too many of its kind; out needs no end. */
bool rr_line_begin(struct rr_console *c, struct rr_buf *out, int kind, enum rr_level level,
                   const char *message);
void rr_line_text(const struct rr_console *c, struct rr_buf *out, const char *key,
                  const char *value);
void rr_line_number(const struct rr_console *c, struct rr_buf *out, const char *key, double value,
                    unsigned decimals);
void rr_line_end(struct rr_console *c, struct rr_buf *out, enum rr_level level);

/* Writes a line as it is, for people to copy; as a message where lines are for machines. */
void rr_console_plain(struct rr_console *c, const char *line);

/* A number as text in one of a few buffers of the calling thread. */
const char *rr_num(unsigned long long v);
const char *rr_num1(double v); /* one decimal, none from 100 on */

#endif
