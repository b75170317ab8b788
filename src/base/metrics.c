/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - storage and text of metrics.  Every update is relaxed: a scrape wants recent numbers,
 * not an order between them.  Layer: base (L0).  Threads: see metrics.h.
 * Format: Prometheus exposition formats, text-based, version 0.0.4. */
#include "base/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/err.h"

/* Cells of one series: value (counter, gauge) or sum (histogram), then "was touched", then one
 * count per bucket and one for +Inf. */
enum { CELL_VALUE, CELL_TOUCHED, CELL_BUCKETS };

struct rr_metrics {
    const struct rr_metric *table;
    uint32_t n;
    size_t *first;                /* [n] index of the metric's first cell */
    atomic_uint_least64_t *cells; /* all series of all metrics */
};

static uint32_t n_series(const struct rr_metric *d)
{
    return RR_MAX(d->labels[0].n, 1u) * RR_MAX(d->labels[1].n, 1u);
}

static size_t n_cells(const struct rr_metric *d)
{
    return CELL_BUCKETS + (d->type == RR_METRIC_HISTOGRAM ? (size_t)d->n_buckets + 1 : 0);
}

static bool name_ok(const char *s)
{
    size_t i;

    for (i = 0; s && s[i]; i++) {
        bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_' ||
                      s[i] == ':';

        if (!letter && (i == 0 || s[i] < '0' || s[i] > '9')) return false;
    }
    return i > 0;
}

static bool row_ok(const struct rr_metric *d)
{
    uint32_t i;

    if (!name_ok(d->name) || !d->help) return false;
    if (d->labels[1].n && !d->labels[0].n) return false;
    for (i = 0; i < 2; i++) {
        if (d->labels[i].n && !name_ok(d->labels[i].name)) return false;
    }
    for (i = 1; i < d->n_buckets; i++) {
        if (!(d->buckets[i - 1] < d->buckets[i])) return false;
    }
    return true;
}

int rr_metrics_open(struct rr_metrics **out, const struct rr_metric *table, uint32_t n,
                    struct rr_error *err)
{
    struct rr_metrics *m;
    size_t total = 0;
    uint32_t i;

    *out = NULL;
    m = rr_calloc(RR_MEM_SERVER, 1, sizeof(*m));
    if (!m) return rr_fail(err, RR_ENOMEM, "metrics: out of memory");
    m->table = table;
    m->n = n;
    m->first = rr_calloc(RR_MEM_SERVER, n, sizeof(*m->first));
    if (!m->first) goto no_memory;
    for (i = 0; i < n; i++) {
        if (!row_ok(&table[i])) {
            rr_metrics_close(m);
            return rr_fail(err, RR_EINTERNAL, "metrics: row %u of the table is malformed", i);
        }
        m->first[i] = total;
        total += n_series(&table[i]) * n_cells(&table[i]);
    }
    m->cells = rr_calloc(RR_MEM_SERVER, total, sizeof(*m->cells));
    if (!m->cells) goto no_memory;
    *out = m;
    return RR_OK;
no_memory:
    rr_metrics_close(m);
    return rr_fail(err, RR_ENOMEM, "metrics: out of memory");
}

void rr_metrics_close(struct rr_metrics *m)
{
    if (!m) return;
    rr_free(m->first);
    rr_free(m->cells);
    rr_free(m);
}

static atomic_uint_least64_t *series_cells(const struct rr_metrics *m, uint32_t id, uint32_t series)
{
    if (id >= m->n || series >= n_series(&m->table[id])) return NULL;
    return m->cells + m->first[id] + series * n_cells(&m->table[id]);
}

static void add(atomic_uint_least64_t *cell, uint64_t value)
{
    atomic_fetch_add_explicit(cell, value, memory_order_relaxed);
}

static uint64_t get(const atomic_uint_least64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

static void touch(atomic_uint_least64_t *c)
{
    if (!get(&c[CELL_TOUCHED])) atomic_store_explicit(&c[CELL_TOUCHED], 1, memory_order_relaxed);
}

void rr_metrics_add(struct rr_metrics *m, uint32_t id, uint32_t series, uint64_t value)
{
    atomic_uint_least64_t *c = series_cells(m, id, series);

    if (!c) return;
    add(&c[CELL_VALUE], value);
    touch(c);
}

void rr_metrics_set(struct rr_metrics *m, uint32_t id, uint32_t series, int64_t value)
{
    atomic_uint_least64_t *c = series_cells(m, id, series);

    if (!c) return;
    atomic_store_explicit(&c[CELL_VALUE], (uint64_t)value, memory_order_relaxed);
    touch(c);
}

static double scale_of(const struct rr_metric *d)
{
    return d->scale == 0 ? 1 : d->scale;
}

void rr_metrics_observe(struct rr_metrics *m, uint32_t id, uint32_t series, uint64_t value)
{
    atomic_uint_least64_t *c = series_cells(m, id, series);
    const struct rr_metric *d;
    uint32_t i = 0;

    if (!c || m->table[id].type != RR_METRIC_HISTOGRAM) return;
    d = &m->table[id];
    while (i < d->n_buckets && (double)value * scale_of(d) > d->buckets[i]) i++;
    add(&c[CELL_BUCKETS + i], 1);
    add(&c[CELL_VALUE], value);
    touch(c);
}

int64_t rr_metrics_value(const struct rr_metrics *m, uint32_t id, uint32_t series)
{
    const atomic_uint_least64_t *c = series_cells(m, id, series);
    uint64_t count = 0;
    uint32_t i;

    if (!c) return 0;
    if (m->table[id].type != RR_METRIC_HISTOGRAM) return (int64_t)get(&c[CELL_VALUE]);
    for (i = 0; i <= m->table[id].n_buckets; i++) count += get(&c[CELL_BUCKETS + i]);
    return (int64_t)count;
}

/* HELP escapes \ and newline, label values also the quotation mark. */
static void put_escaped(struct rr_buf *out, const char *s, bool quotes)
{
    for (; *s; s++) {
        if (*s == '\\' || (quotes && *s == '"')) rr_buf_putc(out, '\\');
        if (*s == '\n') {
            rr_buf_puts(out, "\\n");
        } else {
            rr_buf_putc(out, *s);
        }
    }
}

static void put_head(struct rr_buf *out, const char *name, const char *help, const char *type)
{
    rr_buf_printf(out, "# HELP %s ", name);
    put_escaped(out, help, false);
    rr_buf_printf(out, "\n# TYPE %s %s\n", name, type);
}

static void put_label(struct rr_buf *out, bool *any, const char *name, const char *value)
{
    rr_buf_printf(out, "%s%s=\"", *any ? "," : "{", name);
    put_escaped(out, value, true);
    rr_buf_putc(out, '"');
    *any = true;
}

/* name + suffix, then the labels of a series, then le if it is not NULL, then a space. */
static void put_name(struct rr_buf *out, const struct rr_metric *d, const char *suffix,
                     uint32_t series, const char *le)
{
    const struct rr_metric_label *a = &d->labels[0], *b = &d->labels[1];
    bool any = false;

    rr_buf_printf(out, "%s%s", d->name, suffix);
    if (a->n) put_label(out, &any, a->name, a->values[b->n ? series / b->n : series]);
    if (b->n) put_label(out, &any, b->name, b->values[series % b->n]);
    if (le) put_label(out, &any, "le", le);
    rr_buf_puts(out, any ? "} " : " ");
}

static void put_value(struct rr_buf *out, const struct rr_metric *d, uint64_t raw)
{
    bool negative = d->type == RR_METRIC_GAUGE && (int64_t)raw < 0;

    if (scale_of(d) != 1) {
        rr_buf_json_double(out, (negative ? (double)(int64_t)raw : (double)raw) * d->scale);
    } else if (negative) {
        rr_buf_printf(out, "%" PRId64, (int64_t)raw);
    } else {
        rr_buf_printf(out, "%" PRIu64, raw);
    }
    rr_buf_putc(out, '\n');
}

static void put_histogram(struct rr_buf *out, const struct rr_metric *d, uint32_t series,
                          const atomic_uint_least64_t *c)
{
    struct rr_buf le;
    uint64_t count = 0;
    uint32_t i;

    rr_buf_init(&le, RR_MEM_SERVER, 64);
    for (i = 0; i <= d->n_buckets; i++) {
        rr_buf_clear(&le);
        if (i < d->n_buckets) {
            rr_buf_json_double(&le, d->buckets[i]);
        } else {
            rr_buf_puts(&le, "+Inf");
        }
        if (le.failed) out->failed = true;
        count += get(&c[CELL_BUCKETS + i]);
        put_name(out, d, "_bucket", series, le.failed ? "" : le.data);
        rr_buf_printf(out, "%" PRIu64 "\n", count);
    }
    rr_buf_free(&le);
    put_name(out, d, "_sum", series, NULL);
    put_value(out, d, get(&c[CELL_VALUE]));
    put_name(out, d, "_count", series, NULL);
    rr_buf_printf(out, "%" PRIu64 "\n", count);
}

void rr_metrics_write(const struct rr_metrics *m, struct rr_buf *out)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };
    uint32_t id, series;

    for (id = 0; id < m->n; id++) {
        const struct rr_metric *d = &m->table[id];

        put_head(out, d->name, d->help, types[d->type]);
        for (series = 0; series < n_series(d); series++) {
            const atomic_uint_least64_t *c = series_cells(m, id, series);

            if (d->labels[1].n && !get(&c[CELL_TOUCHED])) continue;
            if (d->type == RR_METRIC_HISTOGRAM) {
                put_histogram(out, d, series, c);
            } else {
                put_name(out, d, "", series, NULL);
                put_value(out, d, get(&c[CELL_VALUE]));
            }
        }
    }
}

void rr_metrics_write_info(struct rr_buf *out, const char *name, const char *help, uint32_t n,
                           const char *const *keys, const char *const *values)
{
    bool any = false;
    uint32_t i;

    put_head(out, name, help, "gauge");
    rr_buf_puts(out, name);
    for (i = 0; i < n; i++) put_label(out, &any, keys[i], values[i]);
    rr_buf_puts(out, any ? "} 1\n" : " 1\n");
}
