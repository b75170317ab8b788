/* SPDX-License-Identifier: Apache-2.0 */
/* verify_print.c - the report of "rerankd verify": as text, as JSON, and as the model folder's
 * verify.json.  Layer: cli (L6).  Threads: one. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/json_out.h"
#include "cli/cli.h"
#include "cli/verify.h"

#define JSON_LIMIT 65536

static void put_pair(struct rr_json_out *o, const char *key, const double values[2])
{
    rr_out_array(o, key);
    rr_out_printf(o, NULL, "%.5f", values[0]);
    rr_out_printf(o, NULL, "%.5f", values[1]);
    rr_out_end(o);
}

static void put_json(struct rr_buf *b, const struct rr_info *info, const struct rr_info *against,
                     const struct rr_verify_report *r)
{
    const struct rr_info *reference = against ? against : info;
    struct rr_json_out o = { .buf = b, .spaced = true };

    rr_out_object(&o, NULL);
    rr_out_string(&o, "model", info->model);
    rr_out_hex(&o, "fingerprint", info->fingerprint);
    rr_out_string(&o, "dtype", info->dtype);
    rr_out_string(&o, "isa", info->isa);
    rr_out_string(&o, "version", RR_VERSION);
    rr_out_uint(&o, "lists", r->lists);
    rr_out_uint(&o, "pairs", r->pairs);
    rr_out_printf(&o, "max_logit_difference", "%.6g", r->max_diff);
    rr_out_printf(&o, "p99_logit_difference", "%.6g", r->p99_diff);
    rr_out_printf(&o, "mean_logit_difference", "%.6g", r->mean_diff);
    rr_out_printf(&o, "drift", "%.6g", rr_verify_drift(r));
    rr_out_printf(&o, "kendall_tau", "%.6f", r->tau);
    rr_out_printf(&o, "top1_equal", "%.6f", r->top_equal[0]);
    rr_out_printf(&o, "top5_equal", "%.6f", r->top_equal[1]);
    rr_out_printf(&o, "top10_equal", "%.6f", r->top_equal[2]);
    rr_out_uint(&o, "top5_lists", r->top_lists[1]);
    rr_out_string(&o, "reference", against ? against->path : "own weights");
    rr_out_hex(&o, "reference_fingerprint", reference->fingerprint);
    rr_out_string(&o, "reference_weights", reference->weights_dtype);
    if (r->labelled) {
        rr_out_uint(&o, "labelled", r->labelled);
        put_pair(&o, "ndcg10", r->ndcg);
        put_pair(&o, "mrr10", r->mrr);
    }
    if (r->exact_k) {
        rr_out_uint(&o, "exact_top_k", r->exact_k);
        rr_out_printf(&o, "exact_equal", "%.6f", r->exact_equal);
        rr_out_printf(&o, "exact_promised", "%.6f", r->exact_promised);
        rr_out_printf(&o, "rescored", "%.6f", r->rescored);
    }
    rr_out_end(&o);
    rr_buf_putc(b, '\n');
}

void rr_verify_json(FILE *out, const struct rr_info *info, const struct rr_info *against,
                    const struct rr_verify_report *r)
{
    struct rr_buf b;

    rr_buf_init(&b, RR_MEM_MISC, JSON_LIMIT);
    put_json(&b, info, against, r);
    rr_cli_print(out, &b);
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
    put_json(&b, info, NULL, r);
    if (b.failed)
        rc = rr_fail(err, RR_ENOMEM, "out of memory");
    else
        rc = rr_file_write(path, b.data, b.len, err);
    rr_buf_free(&b);
    return rc;
}

/* Which weights f32 stands for: those of a folder in int8 hide what their rounding did. */
static void put_reference(FILE *out, const struct rr_info *info, const struct rr_info *against)
{
    if (against)
        fprintf(out, "%-22s %s, weights in %s\n", "reference", against->path,
                against->weights_dtype);
    else
        fprintf(out, "%-22s the model's own weights, in %s%s\n", "reference", info->weights_dtype,
                strcmp(info->weights_dtype, "int8") == 0
                    ? ", so that their rounding is not seen: --against DIR compares with the "
                      "original"
                    : "");
}

void rr_verify_text(FILE *out, const struct rr_info *info, const struct rr_info *against,
                    const struct rr_verify_report *r)
{
    static const char *const names[RR_VERIFY_TOPS] = { "best equal", "5 best equal",
                                                       "10 best equal" };
    int i;

    fprintf(out, "%s, %s (%s) against f32\n", info->model, info->dtype, info->isa);
    put_reference(out, info, against);
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
