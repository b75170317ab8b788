/* SPDX-License-Identifier: Apache-2.0 */
/* problem.h - what went wrong with one request, before any dialect words it.
 * Layer: server (L6).  Threads: one at a time. */
#ifndef RR_SERVER_PROBLEM_H
#define RR_SERVER_PROBLEM_H

#include <stddef.h>

#include "base/attr.h"
#include "base/buf.h"
#include "rerank_types.h"

struct rr_problem {
    unsigned status;      /* of HTTP; 0: no problem */
    const char *type;     /* text-embeddings-inference's error_type, a closed set */
    const char *kind;     /* pydantic's name for schema errors, e.g. "string_type"; else NULL */
    unsigned retry_after; /* seconds; 0: the header is not sent */
    char path[96];        /* of the field, "documents[3].content"; "" when it is not about one */
    char msg[512];        /* one line; never text of the request */
};

/* Sets status, type (by status) and message; returns -1, so that parsers can return it. */
int rr_problem_set(struct rr_problem *p, unsigned status, const char *fmt, ...) RR_PRINTF(3, 4);

/* A field that is not as it must be: 422, and the message starts with the path. */
int rr_problem_field(struct rr_problem *p, const char *path, const char *kind, const char *fmt, ...)
    RR_PRINTF(4, 5);

/* What an error of the engine means to a client.  overload: status for RR_EBUSY. */
void rr_problem_engine(struct rr_problem *p, const struct rr_error *err, unsigned overload);

/* An engine's message about a document of its request ("documents[3]: ..."): which one, and what
 * follows the colon.  NULL: it is about something else. */
const char *rr_problem_document(const char *msg, size_t *index);

/* Body that readers of all dialects but one can use: {"error": string, "error_type", "message",
 * "detail"}. */
void rr_problem_union(const struct rr_problem *p, struct rr_buf *out);

/* The same with DashScope's "code", a word. */
void rr_problem_dashscope(const struct rr_problem *p, struct rr_buf *out);

/* The same with FastAPI's list under "detail" for schema errors: {type, loc, msg, input}; input is
 * always null, since errors do not quote requests. */
void rr_problem_fastapi(const struct rr_problem *p, struct rr_buf *out);

/* {"error": {message, type, param, code}} of the OpenAI family. */
void rr_problem_openai(const struct rr_problem *p, struct rr_buf *out);

/* Infinity has FastAPI's form for schema errors and OpenAI's for all others. */
void rr_problem_infinity(const struct rr_problem *p, struct rr_buf *out);

/* {"error": {code, message, type}} of llama.cpp. */
void rr_problem_llamacpp(const struct rr_problem *p, struct rr_buf *out);

#endif
