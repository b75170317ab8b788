/* SPDX-License-Identifier: Apache-2.0 */
/* about.c - see about.h. */
#include "server/about.h"

#include "base/text.h"
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

void rr_about_openapi(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    x->status = 200;
    rr_buf_put(&x->reply, rr_page_openapi, rr_page_openapi_len);
}

void rr_about_docs(struct rr_server *s, struct rr_exchange *x)
{
    (void)s;
    x->status = 200;
    x->content_type = "text/html; charset=utf-8";
    rr_http_header(x, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    rr_buf_put(&x->reply, rr_page_docs, rr_page_docs_len);
}
