/* SPDX-License-Identifier: Apache-2.0 */
/* messages.c - see messages.h. */
#include "server/messages.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json_out.h"
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

/* ---- lines -------------------------------------------------------------------------------- */

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

/* A value of logfmt: bare where nothing in it could end it. */
static void put_logfmt(struct rr_buf *out, const char *value)
{
    const char *c = value;

    while (*c > ' ' && *c != '"' && *c != '=' && *c != '\\' && *c != 0x7F) c++;
    if (*value && !*c)
        rr_buf_puts(out, value);
    else
        rr_buf_json_string(out, rr_text(value));
}

static void put_start(const struct rr_console *c, struct rr_buf *out, enum rr_level level,
                      const char *message)
{
    rr_buf_init(out, RR_MEM_SERVER, 64 * 1024);
    if (c->format == RR_LOG_FORMAT_JSON) {
        struct rr_json_out o = { .buf = out, .more = true };

        rr_buf_puts(out, "{\"time\":\"");
        put_time(out);
        rr_buf_putc(out, '"');
        rr_out_string(&o, "level", level_names[level]);
        rr_out_string(&o, "message", message);
    } else if (c->format == RR_LOG_FORMAT_LOGFMT) {
        rr_buf_puts(out, "time=");
        put_time(out);
        rr_buf_printf(out, " level=%s msg=", level_names[level]);
        rr_buf_json_string(out, rr_text(message));
    } else {
        put_time(out);
        rr_buf_printf(out, " %-7s %s", level_names[level], message);
    }
}

void rr_line_text(const struct rr_console *c, struct rr_buf *out, const char *key,
                  const char *value)
{
    struct rr_json_out o = { .buf = out, .more = true };

    if (c->format == RR_LOG_FORMAT_JSON) {
        rr_out_string(&o, key, value);
    } else if (c->format == RR_LOG_FORMAT_LOGFMT) {
        rr_buf_printf(out, " %s=", key);
        put_logfmt(out, value);
    }
}

void rr_line_number(const struct rr_console *c, struct rr_buf *out, const char *key, double value,
                    unsigned decimals)
{
    struct rr_json_out o = { .buf = out, .more = true };

    if (c->format == RR_LOG_FORMAT_JSON)
        rr_out_printf(&o, key, "%.*f", (int)decimals, value);
    else if (c->format == RR_LOG_FORMAT_LOGFMT)
        rr_buf_printf(out, " %s=%.*f", key, (int)decimals, value);
}

/* A log that cannot be written is no reason to stop serving. */
static void emit(struct rr_console *c, struct rr_buf *line, enum rr_level level)
{
    bool written;

    if (c->format == RR_LOG_FORMAT_JSON) rr_buf_putc(line, '}');
    rr_buf_putc(line, '\n');
    written = !line->failed && rr_outlet_write(&c->outlet, line->data, line->len);
    rr_buf_free(line);
    if (c->metrics) rr_metrics_add(c->metrics, written ? RR_M_LOG : RR_M_LOG_DROPPED, level, 1);
}

/* Is there room for one more line of this kind?  Tells of those for which there was none. */
static bool let_through(struct rr_console *c, int kind, enum rr_level level)
{
    const char *count;
    struct rr_buf text, out;
    uint64_t missed;
    bool yes;

    pthread_mutex_lock(&c->lock);
    yes = rr_limit_take(&c->limits[kind], atomic_load(&c->rate), rr_now_ns(), &missed);
    pthread_mutex_unlock(&c->lock);
    if (!yes && c->metrics) rr_metrics_add(c->metrics, RR_M_LOG_DROPPED, level, 1);
    if (!missed) return yes;
    count = rr_num(missed);
    rr_buf_init(&text, RR_MEM_SERVER, 8192);
    rr_message_write(&text, RR_SAY_LOG_DROPPED, c->french, &count, 1);
    if (!text.failed) {
        put_start(c, &out, RR_WARN, text.data);
        emit(c, &out, RR_WARN);
    }
    rr_buf_free(&text);
    return yes;
}

bool rr_line_begin(struct rr_console *c, struct rr_buf *out, int kind, enum rr_level level,
                   const char *message)
{
    if (!rr_log_on(level) || !let_through(c, kind, level)) return false;
    put_start(c, out, level, message);
    return true;
}

void rr_line_end(struct rr_console *c, struct rr_buf *out, enum rr_level level)
{
    emit(c, out, level);
}

/* ---- sink --------------------------------------------------------------------------------- */

static void sink(void *user, enum rr_log_level level, const char *line)
{
    struct rr_console *c = user;
    enum rr_level l = (int)level < 0 || level > RR_LOG_DEBUG ? RR_ERROR : (enum rr_level)level;
    struct rr_buf out;

    if (!let_through(c, (int)l, l)) return;
    put_start(c, &out, l, line);
    emit(c, &out, l);
}

static enum rr_log_level level_of(const char *name)
{
    size_t i;

    if (strcmp(name, "warn") == 0) return RR_LOG_WARN;
    for (i = 0; i < RR_COUNT(level_names); i++)
        if (strcmp(name, level_names[i]) == 0) return (enum rr_log_level)i;
    return RR_LOG_INFO;
}

void rr_console_open(struct rr_console *c, const char *format, const char *level, uint32_t rate)
{
    c->format = strcmp(format, "json") == 0     ? RR_LOG_FORMAT_JSON
                : strcmp(format, "logfmt") == 0 ? RR_LOG_FORMAT_LOGFMT
                                                : RR_LOG_FORMAT_TEXT;
    pthread_mutex_init(&c->lock, NULL);
    rr_outlet_open(&c->outlet, STDERR_FILENO);
    rr_console_level(c, level, rate);
}

void rr_console_level(struct rr_console *c, const char *level, uint32_t rate)
{
    atomic_store(&c->rate, rate);
    rr_set_log(sink, c, level_of(level));
}

void rr_console_close(struct rr_console *c)
{
    rr_set_log(NULL, NULL, RR_LOG_WARN);
    rr_outlet_close(&c->outlet);
    pthread_mutex_destroy(&c->lock);
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

void rr_console_plain(struct rr_console *c, const char *line)
{
    struct rr_buf out;

    if (c->format != RR_LOG_FORMAT_TEXT) {
        rr_log(RR_INFO, "%s", line);
        return;
    }
    rr_buf_init(&out, RR_MEM_SERVER, 64 * 1024);
    rr_buf_puts(&out, line);
    emit(c, &out, RR_INFO);
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
