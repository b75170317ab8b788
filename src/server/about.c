/* SPDX-License-Identifier: Apache-2.0 */
/* about.c - see about.h. */
#include "server/about.h"

#include <string.h>

#include "base/text.h"
#include "server/handle.h"
#include "server/pages.h"

void rr_about_version(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    x->status = 200;
    rr_buf_printf(&x->reply, "{\"version\":\"%s\"}", rr_version());
}

static unsigned max_length(const struct rr_server *s, const struct rr_exchange *x)
{
    struct rr_engine *engine = x->engine;

    return engine ? rr_engine_info(engine)->max_length : s->settings->max_length;
}

void rr_about_props(struct rr_server *s, struct rr_exchange *x)
{
    x->status = 200;
    rr_buf_puts(&x->reply, "{\"model_path\":");
    rr_buf_json_string(&x->reply, rr_text(rr_server_model(s, x)));
    rr_buf_printf(&x->reply,
                  ",\"default_generation_settings\":{\"n_ctx\":%u},\"build_info\":\"%s\"}",
                  max_length(s, x), rr_version());
}

void rr_about_meta(struct rr_server *s, struct rr_exchange *x)
{
    x->status = 200;
    rr_buf_puts(&x->reply, "{\"model_name\":");
    rr_buf_json_string(&x->reply, rr_text(rr_server_model(s, x)));
    rr_buf_printf(&x->reply, ",\"max_length\":%u,\"version\":\"%s\"}", max_length(s, x),
                  rr_version());
}

void rr_about_live(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    x->status = 204;
}

void rr_about_ready(struct rr_server *s, struct rr_exchange *x)
{
    x->status = atomic_load(&s->phase) == RR_PHASE_READY ? 204 : 503;
    if (x->status == 503) rr_http_header(x, "Retry-After", "1");
}

/* ---- pages -------------------------------------------------------------------------------- */

/* Does If-None-Match name this tag?  Weakly, as the standard has it: W/"a" and "a" are the same. */
static bool has_tag(const char *list, const char *tag)
{
    size_t len = strlen(tag);

    if (!list) return false;
    for (list += strspn(list, ", \t"); *list; list += strspn(list, ", \t")) {
        size_t word = strcspn(list, ", \t"), weak = strncmp(list, "W/", 2) == 0 ? 2 : 0;

        if (word == 1 && *list == '*') return true;
        if (word == len + weak && memcmp(list + weak, tag, len) == 0) return true;
        list += word;
    }
    return false;
}

/* A browser keeps the page and asks each time whether it is still the right one. */
static void send_page(struct rr_exchange *x, const struct rr_page *page)
{
    struct rr_problem problem = { 0 };

    x->status = has_tag(rr_http_given(x, "If-None-Match", 0), page->etag) ? 304 : 200;
    if (x->status == 200) rr_buf_put(&x->reply, page->data, page->len);
    if (x->reply.failed) { /* an empty page would be kept */
        rr_problem_set(&problem, 503, "out of memory for the page");
        rr_reply_problem(x, &rr_dialect_union, &problem);
        return;
    }
    x->content_type = page->type;
    rr_http_header_static(x, "ETag", page->etag);
    rr_http_header_static(x, "Cache-Control", "no-cache");
    rr_http_header_static(x, "X-Content-Type-Options", "nosniff");
    if (page->csp) {
        rr_http_header_static(x, "Content-Security-Policy", page->csp);
        rr_http_header_static(x, "Referrer-Policy", "no-referrer");
    }
}

void rr_about_openapi(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    send_page(x, &rr_page_openapi);
}

void rr_about_docs(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    send_page(x, &rr_page_docs);
}

void rr_about_playground(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    send_page(x, &rr_page_playground);
}

void rr_about_status(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    send_page(x, &rr_page_status);
}
