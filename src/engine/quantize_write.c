/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_write.c - see quantize.h. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/json_out.h"
#include "base/mem.h"
#include "engine/quantize.h"

#define MAX_REPORT (16u << 20)

static void number(struct rr_json_out *o, const char *key, double v)
{
    if (isfinite(v)) rr_out_double(o, key, v);
}

static void report_layer(struct rr_buf *b, const struct rr_quant_job *j,
                         const struct rr_quant_layer *l)
{
    static const char *const names[] = { "int8", "int8", "bf16", "f32" };
    struct rr_json_out o = { .buf = b, .spaced = true };

    rr_buf_puts(b, "    ");
    rr_out_object(&o, NULL);
    rr_out_array(&o, "weights");
    for (uint32_t p = 0; p < l->n_parts; p++)
        rr_out_string(&o, NULL, j->tensors[l->tensor[p]].name);
    rr_out_end(&o);
    rr_out_string(&o, "dtype", names[l->as]);
    if (l->as == RR_QUANT_I8 && l->alpha >= 0) number(&o, "alpha", (double)l->alpha);
    number(&o, "output_error", l->error);
    if (l->as == RR_QUANT_FINE) rr_out_uint(&o, "input_bits", 16);
    number(&o, "variance_int8", l->variance[RR_QUANT_I8]);
    number(&o, "variance_int8_inputs_16", l->variance[RR_QUANT_FINE]);
    number(&o, "variance_bf16", l->variance[RR_QUANT_BF16]);
    rr_out_end(&o);
}

int rr_quant_write(struct rr_quant_job *j, struct rr_error *err)
{
    struct rr_export *e = &j->out;
    bool int8 = strcmp(j->q->dtype, "int8") == 0;
    struct rr_buf b;
    char *report;
    int rc;

    rr_buf_init(&b, RR_MEM_MISC, MAX_REPORT);
    rr_buf_printf(&b, "{\n  \"made_by\": \"rerankd %s\",\n  \"dtype\": \"%s\",\n", RR_VERSION,
                  j->q->dtype);
    if (int8)
        rr_buf_puts(&b, "  \"rule\": \"w[o,i] = q[o,i] * NAME_scale[o] * NAME_smooth[i]; without a "
                        "tensor NAME_smooth its factor is 1; inputs are rounded to "
                        "NAME_input_bits, 8 without that tensor\",\n");
    rr_buf_printf(&b,
                  "  \"source_fingerprint\": \"%016" PRIx64 "\",\n  \"calibration_lists\": %zu,"
                  "\n  \"layers\": [\n",
                  j->source->fingerprint, j->q->n_calibration);
    for (uint32_t i = 0; i < j->n_layers && int8; i++) {
        if (i) rr_buf_puts(&b, ",\n");
        report_layer(&b, j, &j->layers[i]);
    }
    rr_buf_puts(&b, "\n  ]\n}\n");
    report = rr_buf_take(&b, &(size_t){ 0 });
    rr_buf_free(&b);
    if (!report) return rr_fail(err, RR_ENOMEM, "out of memory for the report");
    rr_quant_progress(j, "writing", 0, 0);
    e->p = &j->p;
    e->checkpoint = rr_model_checkpoint(j->model);
    e->modules = rr_model_info(j->model)->modules;
    e->report = report;
    rc = rr_export_write(e, err);
    rr_free(report);
    return rc;
}

int rr_quant_pack(const struct rr_quant_job *j, struct rr_error *err)
{
    struct rr_device_options dev = { .threads = j->s.info.threads, .isa = j->s.info.isa };
    struct rr_device *device = NULL;
    struct rr_model *m;
    int rc;

    rr_quant_progress(j, "packing", 0, 0);
    rc = rr_model_open(&m, j->out.dir.path, err);
    if (rc) return rc;
    dev.dtype = rr_model_info(m)->dtype;
    dev.packed_dirs[1] = j->out.dir.path;
    rc = rr_pairing_judge(&j->s.pairing, m, err);
    if (!rc) rc = j->net->backend->open(&device, &dev, err);
    if (!rc) rc = rr_model_load(m, j->net->backend, device, &j->s.lanes[0].limits, err);
    rr_model_close(m);
    j->net->backend->close(device);
    return rc;
}
