/* SPDX-License-Identifier: Apache-2.0 */
/* async.c - many requests at once, with one callback: the engine puts pairs of all of them into its
 * batches, and no thread of yours waits.
 *
 *     cc async.c $(pkg-config --cflags --libs rerank) -lpthread -o async
 *     ./async models/starter */
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "rerank.h"

#define TEXT(literal) \
    { \
        literal, sizeof(literal) - 1 \
    }

static const struct rr_text documents[] = {
    TEXT("Paris is the capital of France."),
    TEXT("Bread is made of flour, water, salt and yeast."),
    TEXT("The Nile flows through Egypt."),
};

struct job {
    struct rr_request request; /* must stay where it is until on_done */
    sem_t *finished;
};

/* Called from a thread of the engine: note the result and go, never block. */
static void on_done(void *user, struct rr_result *result, const struct rr_error *err)
{
    struct job *job = user;
    unsigned best;

    if (result) {
        best = result->order[0];
        printf("%-32.*s %.4f  %s\n", (int)job->request.query.len, job->request.query.data,
               result->scores[best].score, documents[best].data);
        rr_result_free(result);
    } else {
        fprintf(stderr, "%s\n", err->msg);
    }
    sem_post(job->finished);
}

int main(int argc, char **argv)
{
    static const struct rr_text queries[] = { TEXT("Where is Paris?"), TEXT("How do I bake?"),
                                              TEXT("Which rivers are in Africa?") };
    struct job jobs[3];
    struct rr_options options;
    struct rr_engine *engine;
    struct rr_error err;
    sem_t finished;
    int i, accepted = 0;

    rr_options_init(&options);
    options.model = argc > 1 ? argv[1] : "models/starter";
    if (rr_open(&engine, &options, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    sem_init(&finished, 0, 0);
    for (i = 0; i < 3; i++) {
        jobs[i] = (struct job){ { .query = queries[i], .documents = documents, .n_documents = 3 },
                                &finished };
        if (rr_submit(engine, &jobs[i].request, on_done, &jobs[i], NULL, &err))
            fprintf(stderr, "%s\n", err.msg); /* refused, on_done will not come */
        else
            accepted++;
    }
    for (i = 0; i < accepted; i++) sem_wait(&finished);
    rr_close(engine);
    sem_destroy(&finished);
    return accepted == 3 ? 0 : 1;
}
