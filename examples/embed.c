/* SPDX-License-Identifier: Apache-2.0 */
/* embed.c - ranks the lines of standard input for a query, inside your own program.
 *
 *     cc embed.c $(pkg-config --cflags --libs rerank) -o embed
 *     printf 'Bread needs flour.\nParis is in France.\n' | ./embed models/starter 'Where is Paris?' */
#include <stdio.h>
#include <string.h>

#include "rerank.h"

#define MAX_LINES 100
#define MAX_LINE 1000

int main(int argc, char **argv)
{
    static char lines[MAX_LINES][MAX_LINE];
    struct rr_text documents[MAX_LINES];
    struct rr_request request = { .documents = documents };
    struct rr_options options;
    struct rr_engine *engine;
    struct rr_result *result;
    struct rr_error err;
    size_t n = 0, i;

    if (argc != 3) {
        fprintf(stderr, "usage: embed MODEL QUERY < LINES\n");
        return 64;
    }
    rr_options_init(&options);
    options.model = argv[1];
    if (rr_open(&engine, &options, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    for (; n < MAX_LINES && fgets(lines[n], MAX_LINE, stdin); n++) {
        documents[n] = (struct rr_text){ lines[n], strcspn(lines[n], "\n") };
    }
    request.query = (struct rr_text){ argv[2], strlen(argv[2]) };
    request.n_documents = n;
    if (rr_score(engine, &request, &result, &err)) { /* also says so when there are no lines */
        fprintf(stderr, "%s\n", err.msg);
        rr_close(engine);
        return 1;
    }
    for (i = 0; i < result->n_documents; i++) {
        unsigned best = result->order[i];

        printf("%.4f  %.*s\n", result->scores[best].score, (int)documents[best].len,
               documents[best].data);
    }
    rr_result_free(result);
    rr_close(engine);
    return 0;
}
