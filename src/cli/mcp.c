/* SPDX-License-Identifier: Apache-2.0 */
/* mcp.c - JSON-RPC 2.0 and the methods of the Model Context Protocol.
 * Layer: cli (L6).  Threads: one.
 *
 * Revisions up to 2025-11-25: they differ in nothing that a server with one tool and no state does.
 * A client of a later one learns from "method not found" that it has to shake hands as before. */
#include "cli/mcp.h"

#include <jansson.h>

#include "base/json.h"
#include "base/json_out.h"
#include "base/text.h"
#include "cli/mcp_tool.h"

enum {
    PARSE_ERROR = -32700,
    INVALID_REQUEST = -32600,
    NO_METHOD = -32601,
    BAD_PARAMS = -32602,
    INTERNAL = -32603
};

/* The last is what is offered to a client that asks for another one. */
static const char *const revisions[] = { "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25" };

/* An id as it came: a string or a number; anything else as null. */
static void put_start(struct rr_buf *out, const json_t *id)
{
    rr_buf_puts(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    if (json_is_string(id))
        rr_buf_json_string(out, (struct rr_text){ json_string_value(id), json_string_length(id) });
    else if (json_is_integer(id))
        rr_buf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    else if (json_is_real(id))
        rr_buf_json_double(out, json_real_value(id));
    else
        rr_buf_puts(out, "null");
}

static void put_error(struct rr_buf *out, const json_t *id, int code, const char *message)
{
    struct rr_json_out o = { .buf = out, .more = true };

    put_start(out, id);
    rr_out_object(&o, "error");
    rr_out_int(&o, "code", code);
    rr_out_string(&o, "message", message);
    rr_out_end(&o);
    rr_buf_putc(out, '}');
}

static void do_initialize(const struct rr_mcp *mcp, const json_t *params, struct rr_buf *out)
{
    const char *asked = json_string_value(json_object_get(params, "protocolVersion"));
    const char *revision = revisions[RR_COUNT(revisions) - 1];
    size_t i;

    (void)mcp;
    for (i = 0; asked && i < RR_COUNT(revisions); i++) {
        if (strcmp(asked, revisions[i]) == 0) revision = revisions[i];
    }
    rr_buf_printf(
        out,
        "{\"protocolVersion\":\"%s\",\"capabilities\":{\"tools\":{\"listChanged\":false}},"
        "\"serverInfo\":{\"name\":\"rerankd\",\"version\":\"%s\"}}",
        revision, rr_version());
}

static void do_ping(const struct rr_mcp *mcp, const json_t *params, struct rr_buf *out)
{
    (void)mcp;
    (void)params;
    rr_buf_puts(out, "{}");
}

static void do_list(const struct rr_mcp *mcp, const json_t *params, struct rr_buf *out)
{
    (void)mcp;
    (void)params;
    rr_buf_printf(out, "{\"tools\":[%s]}", rr_mcp_tool_description);
}

static void do_call(const struct rr_mcp *mcp, const json_t *params, struct rr_buf *out)
{
    rr_mcp_tool_call(mcp, json_object_get(params, "arguments"), out);
}

static const struct method {
    const char *name;
    void (*run)(const struct rr_mcp *mcp, const json_t *params, struct rr_buf *out);
} methods[] = {
    { "initialize", do_initialize },
    { "ping", do_ping },
    { "tools/list", do_list },
    { "tools/call", do_call },
};

static void answer_request(const struct rr_mcp *mcp, const json_t *message, struct rr_buf *out)
{
    const json_t *id = json_object_get(message, "id");
    const json_t *params = json_object_get(message, "params");
    const char *name = json_string_value(json_object_get(message, "method"));
    const char *tool = json_string_value(json_object_get(params, "name"));
    const struct method *m = methods;

    while (m < methods + RR_COUNT(methods) && strcmp(m->name, name) != 0) m++;
    if (m == methods + RR_COUNT(methods)) {
        put_error(out, id, NO_METHOD,
                  "no such method; expected initialize, ping, tools/list or tools/call");
    } else if (params && !json_is_object(params)) {
        put_error(out, id, BAD_PARAMS, "params: expected an object");
    } else if (m->run == do_call && (!tool || strcmp(tool, RR_MCP_TOOL) != 0)) {
        put_error(out, id, BAD_PARAMS, "no such tool; the only one is " RR_MCP_TOOL);
    } else {
        put_start(out, id);
        rr_buf_puts(out, ",\"result\":");
        m->run(mcp, params, out);
        rr_buf_putc(out, '}');
    }
}

/* One message.  Without an id it is a notification, without a method a reply: neither is answered,
 * and this server waits for none. */
static void answer_message(const struct rr_mcp *mcp, const json_t *message, struct rr_buf *out)
{
    const char *version = json_string_value(json_object_get(message, "jsonrpc"));
    const json_t *id = json_object_get(message, "id");
    const json_t *method = json_object_get(message, "method");

    if (!version || strcmp(version, "2.0") != 0) {
        put_error(out, id, INVALID_REQUEST, "expected an object with \"jsonrpc\": \"2.0\"");
    } else if (method ? !json_is_string(method)
                      : !json_object_get(message, "result") && !json_object_get(message, "error")) {
        put_error(out, id, INVALID_REQUEST, "method: expected a string");
    } else if (method && id && !json_is_string(id) && !json_is_number(id)) {
        put_error(out, NULL, INVALID_REQUEST, "id: expected a string or a number");
    } else if (method && id) {
        answer_request(mcp, message, out);
    }
}

static void answer_batch(const struct rr_mcp *mcp, const json_t *batch, struct rr_buf *out)
{
    size_t i, before, n = 0;

    if (json_array_size(batch) == 0) {
        put_error(out, NULL, INVALID_REQUEST, "expected a message, found an empty array");
        return;
    }
    rr_buf_putc(out, '[');
    for (i = 0; i < json_array_size(batch); i++) {
        before = out->len;
        if (n) rr_buf_putc(out, ',');
        answer_message(mcp, json_array_get(batch, i), out);
        if (out->len > before + (n > 0))
            n++;
        else
            out->len = before; /* without the comma */
    }
    if (n)
        rr_buf_putc(out, ']');
    else
        out->len = 0; /* rr_buf_clear would forget that memory was short */
}

void rr_mcp_answer(const struct rr_mcp *mcp, struct rr_text line, struct rr_buf *reply)
{
    struct rr_error err = { 0 };
    json_t *message = NULL;

    rr_buf_clear(reply);
    if (rr_text_blank(line)) return;
    if (rr_json_parse(&message, line, mcp->max_depth, RR_JSON_DUP_REJECT, &err))
        put_error(reply, NULL, err.code == RR_ENOMEM ? INTERNAL : PARSE_ERROR, err.msg);
    else if (json_is_array(message))
        answer_batch(mcp, message, reply);
    else
        answer_message(mcp, message, reply);
    json_decref(message);
    if (reply->len) rr_buf_putc(reply, '\n');
}

void rr_mcp_refuse_line(size_t max, struct rr_buf *reply)
{
    char text[100];

    rr_buf_clear(reply);
    snprintf(text, sizeof(text), "found a line of more than %zu bytes (--max-body)", max);
    put_error(reply, NULL, INVALID_REQUEST, text);
    rr_buf_putc(reply, '\n');
}
