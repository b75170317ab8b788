/* SPDX-License-Identifier: Apache-2.0 */
/* problem.c - see problem.h. */
#include "server/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json_out.h"
#include "base/text.h"

static const char *type_of(unsigned status)
{
    switch (status) {
    case 429: return "Overloaded";
    case 424:
    case 500:
    case 504: return "Backend";
    case 499:
    case 503: return "Unhealthy";
    default: return "Validation";
    }
}

/* Cuts a message that did not fit at a character boundary. */
static void trim_utf8(char *s)
{
    size_t len = strlen(s), bad = rr_utf8_invalid((struct rr_text){ s, len });

    if (bad != SIZE_MAX) s[bad] = 0;
}

int rr_problem_set(struct rr_problem *p, unsigned status, const char *fmt, ...)
{
    va_list args;

    p->status = status;
    p->type = type_of(status);
    p->kind = NULL;
    p->path[0] = 0;
    va_start(args, fmt);
    vsnprintf(p->msg, sizeof(p->msg), fmt, args);
    va_end(args);
    trim_utf8(p->msg);
    return -1;
}

int rr_problem_field(struct rr_problem *p, const char *path, const char *kind, const char *fmt, ...)
{
    va_list args;
    size_t len;

    p->status = 422;
    p->type = type_of(422);
    p->kind = kind;
    snprintf(p->path, sizeof(p->path), "%s", path);
    len = (size_t)snprintf(p->msg, sizeof(p->msg), "%s: ", p->path);
    va_start(args, fmt);
    vsnprintf(p->msg + len, sizeof(p->msg) - len, fmt, args);
    va_end(args);
    trim_utf8(p->msg);
    return -1;
}

void rr_problem_engine(struct rr_problem *p, const struct rr_error *err, unsigned overload)
{
    static const struct {
        int code;
        unsigned status;
    } table[] = {
        { RR_EINVAL, 422 },    { RR_ENOTSUP, 422 }, { RR_ETOOBIG, 422 }, { RR_ETIMEDOUT, 504 },
        { RR_ECANCELED, 499 }, { RR_ECLOSED, 503 }, { RR_EDEVICE, 503 }, { RR_ENOMEM, 503 },
    };
    unsigned status = err->code == RR_EBUSY ? overload : 500;
    size_t i;

    for (i = 0; i < RR_COUNT(table); i++)
        if (table[i].code == err->code) status = table[i].status;
    rr_problem_set(p, status, "%s", err->msg);
    if (err->code == RR_EBUSY) p->type = "Overloaded"; /* also when the status is 503 */
}

const char *rr_problem_document(const char *msg, size_t *index)
{
    static const char start[] = "documents[";
    size_t n = 0, len = sizeof(start) - 1;

    if (strncmp(msg, start, len) != 0) return NULL;
    for (msg += len; *msg >= '0' && *msg <= '9'; msg++) n = n * 10 + (size_t)(*msg - '0');
    if (strncmp(msg, "]: ", 3) != 0) return NULL;
    *index = n;
    return msg + 3;
}

static void put_common(const struct rr_problem *p, struct rr_json_out *o)
{
    rr_out_string(o, "error", p->msg);
    rr_out_string(o, "error_type", p->type);
    rr_out_string(o, "message", p->msg);
}

void rr_problem_union(const struct rr_problem *p, struct rr_buf *out)
{
    struct rr_json_out o = { .buf = out };

    rr_out_object(&o, NULL);
    put_common(p, &o);
    rr_out_string(&o, "detail", p->msg);
    rr_out_end(&o);
}

void rr_problem_dashscope(const struct rr_problem *p, struct rr_buf *out)
{
    struct rr_json_out o = { .buf = out };

    rr_out_object(&o, NULL);
    rr_out_string(&o, "code",
                  p->status == 401   ? "InvalidApiKey"
                  : p->status == 403 ? "AccessDenied"
                  : p->status == 404 ? (p->path[0] ? "ModelNotFound" : "NotFound")
                  : p->status == 429 ? "Throttling"
                  : p->status >= 500 ? "InternalError"
                                     : "InvalidParameter");
    put_common(p, &o);
    rr_out_string(&o, "detail", p->msg);
    rr_out_end(&o);
}

/* "documents[3].content" as ["body","documents",3,"content"]. */
static void put_loc(struct rr_json_out *o, const char *path)
{
    rr_out_array(o, "loc");
    rr_out_string(o, NULL, "body");
    while (*path) {
        struct rr_text word = { path, strcspn(path, ".[]") };

        if (word.len && strspn(path, "0123456789") == word.len)
            rr_out_printf(o, NULL, "%.*s", (int)word.len, path);
        else if (word.len)
            rr_out_text(o, NULL, word);
        path += word.len;
        if (*path) path++;
    }
    rr_out_end(o);
}

void rr_problem_fastapi(const struct rr_problem *p, struct rr_buf *out)
{
    struct rr_json_out o = { .buf = out };
    const char *msg = p->msg;
    size_t prefix = strlen(p->path);

    if (!p->kind) {
        rr_problem_union(p, out);
        return;
    }
    if (prefix && strncmp(msg, p->path, prefix) == 0 && msg[prefix] == ':') msg += prefix + 2;
    rr_out_object(&o, NULL);
    put_common(p, &o);
    rr_out_array(&o, "detail");
    rr_out_object(&o, NULL);
    rr_out_string(&o, "type", p->kind);
    put_loc(&o, p->path);
    rr_out_string(&o, "msg", msg);
    rr_out_null(&o, "input");
    rr_out_end(&o);
    rr_out_end(&o);
    rr_out_end(&o);
}

void rr_problem_openai(const struct rr_problem *p, struct rr_buf *out)
{
    struct rr_json_out o = { .buf = out };

    rr_out_object(&o, NULL);
    rr_out_object(&o, "error");
    rr_out_string(&o, "message", p->msg);
    rr_out_string(&o, "type",
                  p->status >= 500   ? "InternalServerError"
                  : p->status == 429 ? "RateLimitError"
                  : p->status == 404 ? "NotFoundError"
                                     : "BadRequestError");
    rr_out_string(&o, "param", p->path[0] ? p->path : NULL);
    rr_out_uint(&o, "code", p->status);
    rr_out_end(&o);
    rr_out_end(&o);
}

void rr_problem_infinity(const struct rr_problem *p, struct rr_buf *out)
{
    if (p->kind)
        rr_problem_fastapi(p, out);
    else
        rr_problem_openai(p, out);
}

void rr_problem_llamacpp(const struct rr_problem *p, struct rr_buf *out)
{
    struct rr_json_out o = { .buf = out };
    const char *type = "server_error";

    if (p->status == 401)
        type = "authentication_error";
    else if (p->status == 403)
        type = "permission_error";
    else if (p->status == 404)
        type = "not_found_error";
    else if (p->status == 503)
        type = "unavailable_error";
    else if (p->status < 500)
        type = "invalid_request_error";
    rr_out_object(&o, NULL);
    rr_out_object(&o, "error");
    rr_out_uint(&o, "code", p->status);
    rr_out_string(&o, "message", p->msg);
    rr_out_string(&o, "type", type);
    rr_out_end(&o);
    rr_out_end(&o);
}
