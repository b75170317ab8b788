/* SPDX-License-Identifier: Apache-2.0 */
/* messages.c - see messages.h. */
#include "server/messages.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"
#include "rerank.h"
#include "server/meters.h"

static const char *const messages[RR_MESSAGES][2] = {
#define RR_MESSAGE(id, english, french) { english, french },
#include "server/messages.def"
#undef RR_MESSAGE
};

void rr_message_write(struct rr_buf *out, enum rr_message id, bool french, const char *const *args,
                      unsigned n_args)
{
    const char *s = messages[id][french];

    while (*s) {
        size_t plain = strcspn(s, "{");

        rr_buf_put(out, s, plain);
        s += plain;
        if (!*s) break;
        if (s[1] >= '0' && s[1] <= '9' && s[2] == '}') {
            unsigned i = (unsigned)(s[1] - '0');

            rr_buf_puts(out, i < n_args ? args[i] : "?");
            s += 3;
        } else {
            rr_buf_putc(out, *s++);
        }
    }
}

/* ---- sink --------------------------------------------------------------------------------- */

static const char *const level_names[] = { "error", "warning", "info", "debug" };

static void put_time(struct rr_buf *out)
{
    struct timespec now;
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    rr_buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900, tm.tm_mon + 1,
                  tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000);
}

/* One write, so that lines of several threads do not mix.  A log that cannot be written is no
 * reason to stop serving. */
static void emit(struct rr_buf *line)
{
    rr_buf_putc(line, '\n');
    if (!line->failed && write(STDERR_FILENO, line->data, line->len) < 0) line->failed = true;
    rr_buf_free(line);
}

/* Opens the line up to where the message goes. */
static void start(const struct rr_console *c, struct rr_buf *out, int level)
{
    level = level < 0 || level > RR_DEBUG ? RR_ERROR : level;
    if (c->metrics) rr_metrics_add(c->metrics, RR_M_LOG, (uint32_t)level, 1);
    rr_buf_init(out, RR_MEM_SERVER, 64 * 1024);
    if (c->json) rr_buf_puts(out, "{\"time\":\"");
    put_time(out);
    rr_buf_printf(out, c->json ? "\",\"level\":\"%s\",\"message\":" : " %-7s ", level_names[level]);
}

static void sink(void *user, enum rr_log_level level, const char *line)
{
    const struct rr_console *c = user;
    struct rr_buf out;

    start(c, &out, (int)level);
    if (c->json) {
        rr_buf_json_string(&out, rr_text(line));
        rr_buf_putc(&out, '}');
    } else {
        rr_buf_puts(&out, line);
    }
    emit(&out);
}

void rr_console_open(struct rr_console *c)
{
    rr_set_log(sink, c, (enum rr_log_level)c->level);
}

void rr_console_close(void)
{
    rr_set_log(NULL, NULL, RR_LOG_WARN);
}

void rr_say(const struct rr_console *c, enum rr_level level, enum rr_message id,
            const char *const *args, unsigned n)
{
    struct rr_buf text;

    if (!rr_log_on(level)) return;
    rr_buf_init(&text, RR_MEM_SERVER, 8192);
    rr_message_write(&text, id, c->french, args, n);
    if (!text.failed) rr_log(level, "%s", text.data);
    rr_buf_free(&text);
}

static void access_fields(struct rr_buf *out, const struct rr_access *a)
{
    rr_buf_puts(out, ",\"id\":");
    rr_buf_json_string(out, rr_text(a->id));
    rr_buf_printf(out,
                  ",\"dialect\":\"%s\",\"status\":%u,\"documents\":%zu,\"results\":%zu,"
                  "\"tokens\":%llu,\"ms\":%.3f,\"queue_ms\":%.3f,\"compute_ms\":%.3f}",
                  a->dialect, a->status, a->documents, a->results, a->tokens, a->ms, a->queue_ms,
                  a->compute_ms);
}

void rr_console_access(const struct rr_console *c, const struct rr_access *a)
{
    const char *const done[] = { rr_num(a->documents), rr_num(a->results), rr_num1(a->ms),
                                 rr_num(a->tokens),    a->dialect,         a->id };
    const char *const refused[] = { rr_num(a->status), a->problem, a->dialect, a->id };
    enum rr_level level = a->problem && a->status >= 500 ? RR_WARN : RR_INFO;
    struct rr_buf text, out;

    if (!rr_log_on(level)) return;
    rr_buf_init(&text, RR_MEM_SERVER, 8192);
    if (a->problem)
        rr_message_write(&text, RR_SAY_REFUSED, c->french, refused, RR_COUNT(refused));
    else
        rr_message_write(&text, RR_SAY_REQUEST, c->french, done, RR_COUNT(done));
    if (text.failed) {
        rr_buf_free(&text);
        return;
    }
    if (c->json) {
        start(c, &out, level);
        rr_buf_json_string(&out, (struct rr_text){ text.data, text.len });
        access_fields(&out, a);
        emit(&out);
    } else {
        rr_log(level, "%s", text.data);
    }
    rr_buf_free(&text);
}

void rr_console_plain(const struct rr_console *c, const char *line)
{
    struct rr_buf out;

    if (c->json) {
        rr_log(RR_INFO, "%s", line);
        return;
    }
    rr_buf_init(&out, RR_MEM_SERVER, 64 * 1024);
    rr_buf_puts(&out, line);
    emit(&out);
}

/* ---- numbers ------------------------------------------------------------------------------ */

static char *next_buffer(void)
{
    static _Thread_local char buffers[16][32];
    static _Thread_local unsigned next;

    return buffers[next++ % RR_COUNT(buffers)];
}

const char *rr_num(unsigned long long v)
{
    char *b = next_buffer();

    snprintf(b, 32, "%llu", v);
    return b;
}

const char *rr_num1(double v)
{
    char *b = next_buffer();

    if (v >= 99.95)
        snprintf(b, 32, "%.0f", v);
    else
        snprintf(b, 32, "%.1f", v);
    return b;
}
