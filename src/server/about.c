/* SPDX-License-Identifier: Apache-2.0 */
/* about.c - see about.h. */
#include "server/about.h"

#include <string.h>

#include "base/json_out.h"
#include "base/text.h"
#include "server/gate.h"
#include "server/handle.h"
#include "server/pages.h"

void rr_about_version(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };

    (void)s;
    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "version", rr_version());
    rr_out_end(&o);
}

static unsigned max_length(const struct rr_server *s, const struct rr_exchange *x)
{
    struct rr_engine *engine = x->engine;

    return engine ? rr_engine_info(engine)->max_length : s->settings->max_length;
}

void rr_about_props(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };

    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "model_path", rr_server_model(s, x));
    rr_out_object(&o, "default_generation_settings");
    rr_out_uint(&o, "n_ctx", max_length(s, x));
    rr_out_end(&o);
    rr_out_string(&o, "build_info", rr_version());
    rr_out_end(&o);
}

void rr_about_meta(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };

    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_string(&o, "model_name", rr_server_model(s, x));
    rr_out_uint(&o, "max_length", max_length(s, x));
    rr_out_string(&o, "version", rr_version());
    rr_out_end(&o);
}

/* Xinference's client sends its key only to a server that says here that it wants one. */
void rr_about_keys(struct rr_server *s, struct rr_exchange *x)
{
    struct rr_json_out o = { .buf = &x->reply };

    x->status = 200;
    rr_out_object(&o, NULL);
    rr_out_bool(&o, "auth", rr_gate_asks_keys(s));
    rr_out_end(&o);
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
    struct rr_text word;

    while (list && rr_text_word(&list, &word)) {
        if (rr_text_is(word, "*")) return true;
        if (strncmp(word.data, "W/", 2) == 0) word.data += 2, word.len -= 2;
        if (rr_text_is(word, tag)) return true;
    }
    return false;
}

/* A browser keeps the page and asks each time whether it is still the right one. */
static void send_page(struct rr_exchange *x, const struct rr_page *page)
{
    struct rr_problem problem = { 0 };

    x->status = has_tag(rr_http_given(x, "If-None-Match", 0), page->etag) ? 304 : 200;
    rr_buf_put(&x->reply, page->data, page->len); /* not sent with 304, but its length is */
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
