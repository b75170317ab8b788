/* SPDX-License-Identifier: Apache-2.0 */
/* verify_print.c - the report of "rerankd verify": as text, as JSON, and as the model folder's
 * verify.json.  Layer: cli (L6).  Threads: one. */
#include <inttypes.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/verify.h"

#define JSON_LIMIT 65536

static void put_json(struct rr_buf *b, const struct rr_info *info, const struct rr_verify_report *r)
{
    rr_buf_puts(b, "{\"model\": ");
    rr_buf_json_string(b, rr_text(info->model));
    rr_buf_printf(b,
                  ", \"fingerprint\": \"%016" PRIx64 "\", \"dtype\": \"%s\", \"isa\": \"%s\", "
                  "\"lists\": %zu, \"pairs\": %zu, \"max_logit_difference\": %.6g, "
                  "\"p99_logit_difference\": %.6g, \"mean_logit_difference\": %.6g, "
                  "\"drift\": %.6g, \"kendall_tau\": %.6f, \"top1_equal\": %.6f, "
                  "\"top5_equal\": %.6f, \"top10_equal\": %.6f, \"top5_lists\": %zu",
                  info->fingerprint, info->dtype, info->isa, r->lists, r->pairs, r->max_diff,
                  r->p99_diff, r->mean_diff, rr_verify_drift(r), r->tau, r->top_equal[0],
                  r->top_equal[1], r->top_equal[2], r->top_lists[1]);
    if (r->labelled)
        rr_buf_printf(b, ", \"labelled\": %zu, \"ndcg10\": [%.5f, %.5f], \"mrr10\": [%.5f, %.5f]",
                      r->labelled, r->ndcg[0], r->ndcg[1], r->mrr[0], r->mrr[1]);
    if (r->exact_k)
        rr_buf_printf(b,
                      ", \"exact_top_k\": %zu, \"exact_equal\": %.6f, \"exact_promised\": %.6f, "
                      "\"rescored\": %.6f",
                      r->exact_k, r->exact_equal, r->exact_promised, r->rescored);
    rr_buf_puts(b, "}\n");
}

void rr_verify_json(FILE *out, const struct rr_info *info, const struct rr_verify_report *r)
{
    struct rr_buf b;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    put_json(&b, info, r);
    if (!b.failed) fwrite(b.data, 1, b.len, out);
    rr_buf_free(&b);
}

int rr_verify_write(const struct rr_info *info, const struct rr_verify_report *r,
                    struct rr_error *err)
{
    char path[sizeof(info->path) + 16];
    struct rr_buf b;
    int rc;

    if (!rr_path_join(path, sizeof(path), info->path, "verify.json"))
        return rr_fail(err, RR_EINVAL, "the model's path is too long");
    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    put_json(&b, info, r);
    if (b.failed)
        rc = rr_fail(err, RR_ENOMEM, "out of memory");
    else
        rc = rr_file_write(path, b.data, b.len, err);
    rr_buf_free(&b);
    return rc;
}

void rr_verify_text(FILE *out, const struct rr_info *info, const struct rr_verify_report *r)
{
    static const char *const names[RR_VERIFY_TOPS] = { "best equal", "5 best equal",
                                                       "10 best equal" };
    int i;

    fprintf(out, "%s, %s (%s) against f32\n", info->model, info->dtype, info->isa);
    fprintf(out, "%-22s %zu, %zu pairs\n", "lists", r->lists, r->pairs);
    fprintf(out, "%-22s max %.4g, 99 %% below %.4g, mean %.4g\n", "logit difference", r->max_diff,
            r->p99_diff, r->mean_diff);
    fprintf(out, "%-22s %.4f\n", "Kendall's tau", r->tau);
    for (i = 0; i < RR_VERIFY_TOPS; i++)
        if (r->top_lists[i])
            fprintf(out, "%-22s %.2f %% of %zu lists\n", names[i], 100 * r->top_equal[i],
                    r->top_lists[i]);
    if (r->labelled) {
        fprintf(out, "%-22s %.4f, f32 %.4f (%zu labelled lists)\n", "nDCG@10", r->ndcg[1],
                r->ndcg[0], r->labelled);
        fprintf(out, "%-22s %.4f, f32 %.4f\n", "MRR@10", r->mrr[1], r->mrr[0]);
    }
    if (!r->exact_k) return;
    fprintf(out, "exact top %-12zu equal to f32's in %.2f %% of the lists, promised in %.2f %%\n",
            r->exact_k, 100 * r->exact_equal, 100 * r->exact_promised);
    fprintf(out, "%-22s %.2f %% of the pairs\n", "re-scored", 100 * r->rescored);
}
