/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli_mcp.c - messages of the Model Context Protocol when memory is short.  What they mean is
 * tested from outside, in tests/e2e/cli_mcp.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/mcp.h"
#include "support/fault.h"

#define CALL(arguments) \
    "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/call\"," \
    "\"params\":{\"name\":\"rerank\",\"arguments\":" arguments "}}"

static const struct {
    const char *line, *part; /* of the reply when nothing fails; NULL: there is none */
    const char *why;
} rows[] = {
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}", "protocolVersion",
      "no parameters" },
    { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}", "inputSchema", "a long reply" },
    { CALL("{\"query\":\"q\",\"documents\":[\"a\",3]}"), "documents[1]: found an integer",
      "the array of documents has been made" },
    { CALL("{\"query\":\"q\",\"documents\":[\"a\"],\"top_n\":0}"), "top_n: found 0",
      "all texts have been read" },
    { "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"},3]", "[{", "a batch" },
    { "[{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}]", NULL,
      "a batch without replies" },
    { "{\"a\":", "-32700", "not JSON" },
    { "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", NULL, "a notification" },
};

struct asked {
    const char *line, *part;
};

/* RR_ENOMEM: it was told that memory is short, in whichever way. */
static int answer(void *user)
{
    const struct rr_mcp mcp = { .max_documents = 3,
                                .max_query_bytes = 10,
                                .max_document_bytes = 10 };
    const struct asked *asked = user;
    struct rr_buf reply;
    int rc = RR_OK;

    rr_buf_init(&reply, RR_MEM_MISC, (size_t)1 << 20);
    rr_mcp_answer(&mcp, rr_text(asked->line), &reply);
    if (reply.failed || (reply.len && strstr(reply.data, "out of memory")))
        rc = RR_ENOMEM;
    else if (asked->part ? !reply.len || !strstr(reply.data, asked->part) : reply.len != 0)
        rc = RR_EINTERNAL;
    else if (reply.len && reply.data[reply.len - 1] != '\n')
        rc = RR_EINTERNAL;
    rr_buf_free(&reply);
    return rc;
}

static void test_short_memory(void **state)
{
    size_t i;

    (void)state;
    rr_json_init();
    for (i = 0; i < RR_COUNT(rows); i++) {
        struct asked asked = { rows[i].line, rows[i].part };
        struct fault_report report = fault_each(answer, &asked);

        if (report.allocations == 0) fail_msg("%s: no allocation was made to fail", rows[i].why);
    }
}

static void test_long_line(void **state)
{
    struct rr_buf reply;

    (void)state;
    rr_buf_init(&reply, RR_MEM_MISC, 1000);
    rr_mcp_refuse_line(2000, &reply);
    assert_non_null(strstr(reply.data, "more than 2000 bytes"));
    assert_int_equal(reply.data[reply.len - 1], '\n');
    rr_buf_free(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_memory),
        cmocka_unit_test(test_long_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
