/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_mcp.c - "rerankd mcp": the tool rerank for assistants, over standard input and output.
 * Layer: cli (L6).  Threads: one.
 *
 * A line is a message.  Nothing but messages goes to stdout; the log goes to stderr. */
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/mcp.h"

#define REPLY_LIMIT ((size_t)2 << 30)

enum line { LINE, LINE_TOO_LONG, LINE_END };

/* The next line of stdin, without its newline.  A line that does not fit is read to its end and
 * dropped. */
static enum line read_line(struct rr_buf *line)
{
    int c;

    rr_buf_clear(line);
    while ((c = getc_unlocked(stdin)) != EOF && c != '\n') rr_buf_putc(line, (char)c);
    if (line->failed) return LINE_TOO_LONG;
    return c == EOF && line->len == 0 ? LINE_END : LINE;
}

/* Serves until stdin ends, which is how the client says that it is done.  Returns an exit code. */
static int talk(const struct rr_mcp *mcp, size_t max_line)
{
    struct rr_buf line, reply;
    enum line got;
    int code = RR_EXIT_OK;

    rr_buf_init(&line, RR_MEM_REQUEST, max_line);
    rr_buf_init(&reply, RR_MEM_REQUEST, REPLY_LIMIT);
    while (code == RR_EXIT_OK && (got = read_line(&line)) != LINE_END) {
        if (got == LINE_TOO_LONG)
            rr_mcp_refuse_line(max_line, &reply);
        else
            rr_mcp_answer(mcp, (struct rr_text){ line.data, line.len }, &reply);
        if (reply.failed) {
            rr_cli_complain("mcp", "out of memory");
            code = RR_EXIT_OSERR;
            break;
        }
        if (reply.len) fwrite(reply.data, 1, reply.len, stdout);
        if (!rr_cli_flush(&code)) break;
    }
    if (code == RR_EXIT_OK && ferror(stdin)) {
        rr_cli_complain("mcp", "cannot read standard input: %s", strerror(errno));
        code = RR_EXIT_IOERR;
    }
    rr_buf_free(&line);
    rr_buf_free(&reply);
    return code;
}

static int run_mcp(const struct rr_settings *settings, const void *own, char **words, int n_words)
{
    struct rr_mcp mcp = { .max_documents = settings->max_documents,
                          .max_depth = settings->max_json_depth,
                          .max_query_bytes = settings->max_query_bytes,
                          .max_document_bytes = settings->max_document_bytes };
    struct rr_options opt;
    struct rr_error err = { 0 };
    int rc, code;

    (void)own;
    (void)words;
    (void)n_words;
    rr_set_log(NULL, NULL, RR_LOG_WARN);
    rr_settings_engine(settings, &opt);
    rc = rr_open(&mcp.engine, &opt, &err);
    if (rc) {
        rr_cli_complain("mcp", "%s", err.msg);
        return rr_exit_code(rc);
    }
    code = talk(&mcp, settings->max_body);
    rr_close(mcp.engine);
    return code;
}

const struct rr_command rr_cmd_mcp = {
    .name = "mcp",
    .args = "",
    .summary = "offer the tool rerank to assistants (Model Context Protocol)",
    .about = "Speaks the Model Context Protocol over standard input and output, one JSON-RPC\n"
             "message a line, until the input ends.  An assistant starts it by itself: give it\n"
             "the command \"rerankd\" with the arguments \"mcp\", \"--model\", \"DIR\".",
    .sections = "MODEL DEVICE LIMITS",
    .run = run_mcp,
};
