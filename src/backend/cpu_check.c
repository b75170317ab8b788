/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_check.c - refuses programs that could not be executed.  Layer: backend (L3).  Threads: any.
 *
 * Mistakes of the program itself are RR_EINVAL, tensors of the wrong shape RR_EFORMAT, kinds and
 * types that do not exist here RR_ENOTSUP.  Every message names the operation. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu_backend.h"
#include "base/err.h"
#include "base/mem.h"

#define MAX_WIDTH (1u << 20)   /* columns of a register: keeps every product below 2^64 */
#define MAX_COUNT (1u << 16)   /* operations, registers, tensors */
#define MAX_TOKENS (1u << 28)  /* in a batch */

struct check {
    const struct rr_program *p;
    const struct rr_op *op;
    uint32_t index;  /* of op */
    bool *written;   /* [n_registers] */
    struct rr_error *err;
};

const char *rr_cpu_op_name(enum rr_op_kind kind)
{
    switch (kind) {
    case RR_OP_EMBED: return "EMBED";
    case RR_OP_FIRST: return "FIRST";
    case RR_OP_LAST: return "LAST";
    case RR_OP_MEAN: return "MEAN";
    case RR_OP_LINEAR: return "LINEAR";
    case RR_OP_NORM: return "NORM";
    case RR_OP_GLU: return "GLU";
    case RR_OP_ROTARY: return "ROTARY";
    case RR_OP_ATTENTION: return "ATTENTION";
    }
    return "?";
}

static const char *rows_name(enum rr_rows rows)
{
    return rows == RR_ROWS_TOKENS ? "tokens" : "sequences";
}

static int wrong(const struct check *c, int code)
{
    rr_fail_prefix(c->err, "operation %" PRIu32 " (%s)", c->index, rr_cpu_op_name(c->op->kind));
    return code;
}

/* A register that the operation reads. */
static int check_read(const struct check *c, const char *what, uint32_t reg)
{
    if (reg >= c->p->n_registers)
        return rr_fail(c->err, RR_EINVAL, "%s is register %" PRIu32 ", there are %" PRIu32, what,
                       reg, c->p->n_registers);
    if (!c->written[reg])
        return rr_fail(c->err, RR_EINVAL, "%s is register %" PRIu32 ", which nothing has written",
                       what, reg);
    return RR_OK;
}

static int check_width(const struct check *c, const char *what, uint32_t reg, uint64_t expected)
{
    if (rr_cpu_width(c->p, reg) != expected)
        return rr_fail(c->err, RR_EINVAL,
                       "%s, register %" PRIu32 ", is %" PRIu32 " wide, expected %" PRIu64, what,
                       reg, rr_cpu_width(c->p, reg), expected);
    return RR_OK;
}

static int check_rows(const struct check *c, const char *what, uint32_t reg, enum rr_rows expected)
{
    if (c->p->registers[reg].rows != expected)
        return rr_fail(c->err, RR_EINVAL,
                       "%s, register %" PRIu32 ", has a row for each of the %s, expected %s", what,
                       reg, rows_name(c->p->registers[reg].rows), rows_name(expected));
    return RR_OK;
}

/* A tensor of shape [rows, columns], or [columns] when rank is 1; rows 0: any number.  int8: may it
 * be in I8? */
static int check_any(const struct check *c, const char *what, uint32_t tensor, uint32_t rank,
                     uint32_t rows, uint32_t columns, bool int8)
{
    const struct rr_tensor *t;
    char found[64] = "", expected[64];
    size_t len = 0, size;

    if (tensor >= c->p->n_tensors)
        return rr_fail(c->err, RR_EINVAL, "%s is tensor %" PRIu32 ", there are %" PRIu32, what,
                       tensor, c->p->n_tensors);
    t = &c->p->tensors[tensor];
    if (t->dtype != RR_F32 && t->dtype != RR_F16 && t->dtype != RR_BF16 &&
        !(t->dtype == RR_I8 && int8))
        return rr_fail(c->err, RR_ENOTSUP,
                       "%s %s has a type that this backend cannot read, expected F32, F16 or BF16",
                       what, t->name);
    if (rank == 1)
        snprintf(expected, sizeof(expected), "[%" PRIu32 "]", columns);
    else if (rows)
        snprintf(expected, sizeof(expected), "[%" PRIu32 ", %" PRIu32 "]", rows, columns);
    else
        snprintf(expected, sizeof(expected), "[any, %" PRIu32 "]", columns);
    if (t->rank == rank && t->shape[rank - 1] == columns &&
        (rank == 1 || (t->shape[0] >= 1 && (rows == 0 || t->shape[0] == rows)))) {
        size = t->dtype == RR_F32 ? 4 : t->dtype == RR_I8 ? 1 : 2;
        if (!t->data || (uintptr_t)t->data % size != 0)
            return rr_fail(c->err, RR_EFORMAT, "%s %s: data are not aligned to %zu bytes", what,
                           t->name, size);
        return RR_OK;
    }
    for (uint32_t i = 0; i < t->rank && i < 4; i++)
        len += (size_t)snprintf(found + len, sizeof(found) - len, "%s%" PRIu32, i ? ", " : "",
                                t->shape[i]);
    return rr_fail(c->err, RR_EFORMAT, "%s %s has shape [%s], expected %s", what, t->name, found,
                   expected);
}

static int check_tensor(const struct check *c, const char *what, uint32_t tensor, uint32_t rank,
                        uint32_t rows, uint32_t columns)
{
    return check_any(c, what, tensor, rank, rows, columns, false);
}

static int check_embed(const struct check *c)
{
    const struct rr_op_embed *e = &c->op->u.embed;
    uint32_t width = rr_cpu_width(c->p, c->op->dst);
    int rc;

    if (c->op->src != RR_NONE)
        return rr_fail(c->err, RR_EINVAL, "source is register %" PRIu32 ", expected none",
                       c->op->src);
    rc = check_rows(c, "destination", c->op->dst, RR_ROWS_TOKENS);
    if (!rc) rc = check_tensor(c, "word table", e->word, 2, 0, width);
    if (!rc && e->position != RR_NONE)
        rc = check_tensor(c, "position table", e->position, 2, 0, width);
    if (!rc && e->type != RR_NONE) rc = check_tensor(c, "type table", e->type, 2, 0, width);
    return rc;
}

/* FIRST, LAST, MEAN */
static int check_pool(const struct check *c)
{
    int rc = check_rows(c, "source", c->op->src, RR_ROWS_TOKENS);

    if (!rc) rc = check_rows(c, "destination", c->op->dst, RR_ROWS_SEQUENCES);
    if (!rc) rc = check_width(c, "source", c->op->src, rr_cpu_width(c->p, c->op->dst));
    return rc;
}

static int check_residual(const struct check *c)
{
    const struct rr_op_linear *l = &c->op->u.linear;
    int rc;

    if (l->residual == RR_NONE) return RR_OK;
    rc = check_read(c, "residual", l->residual);
    if (!rc) rc = check_rows(c, "residual", l->residual, c->p->registers[c->op->dst].rows);
    if (!rc) rc = check_width(c, "residual", l->residual, rr_cpu_width(c->p, c->op->dst));
    return rc;
}

/* An int8 weight comes with its scales, and all parts see the same inputs. */
static int check_factors(const struct check *c, const struct rr_tensor *t)
{
    const struct rr_tensor *first = &c->p->tensors[c->op->u.linear.weight[0]];
    const float *smooth = first->dtype == RR_I8 ? first->smooth : NULL;

    if (t->dtype != RR_I8) return RR_OK;
    if (!t->scale)
        return rr_fail(c->err, RR_EFORMAT, "weight %s is in I8 and has no scales", t->name);
    if (first->dtype != RR_I8) return RR_OK;
    if (t->fine != first->fine)
        return rr_fail(c->err, RR_EFORMAT, "weights %s and %s take inputs of different precisions",
                       first->name, t->name);
    if (t->smooth == smooth) return RR_OK;
    if (t->smooth && smooth && !memcmp(t->smooth, smooth, t->shape[1] * sizeof(*smooth)))
        return RR_OK;
    return rr_fail(c->err, RR_EFORMAT, "weights %s and %s have different factors for their inputs",
                   first->name, t->name);
}

static int check_linear(const struct check *c)
{
    const struct rr_op_linear *l = &c->op->u.linear;
    uint32_t in = rr_cpu_width(c->p, c->op->src), out;
    uint64_t total = 0;
    int rc;

    if (l->n_parts < 1 || l->n_parts > 3)
        return rr_fail(c->err, RR_EINVAL, "%" PRIu32 " weight tensors, expected 1 to 3",
                       l->n_parts);
    if ((unsigned)l->act > RR_ACT_TANH)
        return rr_fail(c->err, RR_ENOTSUP, "activation %d is not known", (int)l->act);
    if (c->op->dst == c->op->src)
        return rr_fail(c->err, RR_EINVAL, "destination is the source, register %" PRIu32,
                       c->op->src);
    rc = check_rows(c, "source", c->op->src, c->p->registers[c->op->dst].rows);
    for (uint32_t i = 0; i < l->n_parts && !rc; i++) {
        rc = check_any(c, "weight", l->weight[i], 2, 0, in, true);
        if (!rc) rc = check_factors(c, &c->p->tensors[l->weight[i]]);
        if (rc) break;
        out = c->p->tensors[l->weight[i]].shape[0];
        total += out;
        if (l->bias[i] != RR_NONE) rc = check_tensor(c, "bias", l->bias[i], 1, 0, out);
    }
    if (!rc) rc = check_width(c, "destination", c->op->dst, total);
    if (!rc) rc = check_residual(c);
    return rc;
}

static int check_norm(const struct check *c)
{
    const struct rr_op_norm *n = &c->op->u.norm;
    uint32_t width = rr_cpu_width(c->p, c->op->dst);
    int rc = check_rows(c, "source", c->op->src, c->p->registers[c->op->dst].rows);

    if (!rc) rc = check_width(c, "source", c->op->src, width);
    if (!rc) rc = check_tensor(c, "gamma", n->gamma, 1, 0, width);
    if (!rc && n->beta != RR_NONE) rc = check_tensor(c, "beta", n->beta, 1, 0, width);
    if (!rc && n->rms && n->beta != RR_NONE)
        rc = rr_fail(c->err, RR_EINVAL, "beta is tensor %" PRIu32 ", an RMSNorm has none", n->beta);
    if (!rc && !(n->eps > 0 && isfinite(n->eps)))
        rc = rr_fail(c->err, RR_EINVAL, "eps is %g, expected a small positive number",
                     (double)n->eps);
    return rc;
}

static int check_glu(const struct check *c)
{
    const struct rr_op_glu *g = &c->op->u.glu;
    int rc;

    if (g->act != RR_ACT_GELU && g->act != RR_ACT_RELU && g->act != RR_ACT_SILU &&
        g->act != RR_ACT_GELU_TANH)
        return rr_fail(c->err, RR_ENOTSUP, "activation %d is not one of gated units", (int)g->act);
    if (c->op->dst == c->op->src)
        return rr_fail(c->err, RR_EINVAL, "destination is the source, register %" PRIu32,
                       c->op->src);
    rc = check_rows(c, "source", c->op->src, c->p->registers[c->op->dst].rows);
    if (!rc)
        rc = check_width(c, "source", c->op->src, 2 * (uint64_t)rr_cpu_width(c->p, c->op->dst));
    return rc;
}

static int check_rotary(const struct check *c)
{
    const struct rr_op_rotary *r = &c->op->u.rotary;
    uint64_t end = r->col + (uint64_t)r->heads * r->head_dim;
    uint32_t n;
    int rc;

    if (c->op->dst != c->op->src)
        return rr_fail(c->err, RR_EINVAL,
                       "destination is register %" PRIu32 ", expected the source, %" PRIu32,
                       c->op->dst, c->op->src);
    if (r->heads < 1 || r->head_dim < 1 || end > rr_cpu_width(c->p, c->op->src))
        return rr_fail(c->err, RR_EINVAL,
                       "columns %" PRIu32 " to %" PRIu64 " of register %" PRIu32
                       ", which is %" PRIu32 " wide",
                       r->col, end, c->op->src, rr_cpu_width(c->p, c->op->src));
    if (r->frequencies >= c->p->n_tensors)
        return rr_fail(c->err, RR_EINVAL, "frequencies are tensor %" PRIu32 ", there are %" PRIu32,
                       r->frequencies, c->p->n_tensors);
    n = c->p->tensors[r->frequencies].shape[0];
    rc = check_tensor(c, "frequencies", r->frequencies, 1, 0, n);
    if (!rc && (n < 1 || n > r->head_dim / 2))
        rc = rr_fail(c->err, RR_EINVAL,
                     "%" PRIu32 " frequencies, expected 1 to half of %" PRIu32 " columns", n,
                     r->head_dim);
    if (!rc && r->gamma != RR_NONE) rc = check_tensor(c, "gamma", r->gamma, 1, 0, r->head_dim);
    return rc;
}

static int check_relative(const struct check *c)
{
    const struct rr_op_attention *a = &c->op->u.attention;
    const struct rr_relative *r = &a->relative;
    uint32_t width = a->heads * a->head_dim, in;
    int rc;

    if (!r->on) return RR_OK;
    if (r->span < 1 || r->span > MAX_WIDTH || (r->buckets && r->max_distance < 3))
        return rr_fail(c->err, RR_EINVAL,
                       "distances up to %" PRIu32 " in %" PRIu32 " buckets, span %" PRIu32
                       "; expected a span of 1 to %u and, with buckets, distances from 3",
                       r->max_distance, r->buckets, r->span, MAX_WIDTH);
    if (a->kv_heads && a->kv_heads != a->heads)
        return rr_fail(c->err, RR_ENOTSUP,
                       "relative positions with %" PRIu32 " heads of keys for %" PRIu32
                       " of queries, expected as many",
                       a->kv_heads, a->heads);
    if (r->table >= c->p->n_tensors)
        return rr_fail(c->err, RR_EINVAL, "table is tensor %" PRIu32 ", there are %" PRIu32,
                       r->table, c->p->n_tensors);
    in = c->p->tensors[r->table].shape[1];
    rc = check_tensor(c, "table of distances", r->table, 2, 2 * r->span, in);
    if (!rc && r->gamma != RR_NONE) rc = check_tensor(c, "gamma", r->gamma, 1, 0, in);
    if (!rc && r->gamma != RR_NONE) rc = check_tensor(c, "beta", r->beta, 1, 0, in);
    if (!rc && r->content_position) {
        rc = check_tensor(c, "weight of distances", r->key_weight, 2, width, in);
        if (!rc && r->key_bias != RR_NONE) rc = check_tensor(c, "bias", r->key_bias, 1, 0, width);
    }
    if (!rc && r->position_content) {
        rc = check_tensor(c, "weight of distances", r->query_weight, 2, width, in);
        if (!rc && r->query_bias != RR_NONE)
            rc = check_tensor(c, "bias", r->query_bias, 1, 0, width);
    }
    return rc;
}

static int check_attention(const struct check *c)
{
    const struct rr_op_attention *a = &c->op->u.attention;
    uint32_t kv_heads = rr_cpu_kv_heads(a);
    uint64_t width = (uint64_t)a->heads * a->head_dim;
    uint64_t kv_width = (uint64_t)kv_heads * a->head_dim;
    const struct {
        const char *what;
        uint32_t reg, col;
        uint64_t width;
    } operands[] = {
        { "queries", c->op->src, a->q_col, width },
        { "keys", a->kv, a->k_col, kv_width },
        { "values", a->kv, a->v_col, kv_width },
    };
    int rc;

    if (a->heads < 1 || a->head_dim < 1)
        return rr_fail(c->err, RR_EINVAL,
                       "%" PRIu32 " heads of %" PRIu32 " columns, expected at least 1 of each",
                       a->heads, a->head_dim);
    if (a->heads % kv_heads != 0)
        return rr_fail(c->err, RR_EINVAL,
                       "%" PRIu32 " heads of keys, expected a divisor of %" PRIu32, kv_heads,
                       a->heads);
    if (!isfinite(a->scale))
        return rr_fail(c->err, RR_EINVAL, "scale is %g, expected a number", (double)a->scale);
    rc = check_read(c, "kv", a->kv);
    if (!rc) rc = check_rows(c, "kv", a->kv, RR_ROWS_TOKENS);
    if (!rc) rc = check_rows(c, "source", c->op->src, c->p->registers[c->op->dst].rows);
    if (!rc) rc = check_width(c, "destination", c->op->dst, width);
    for (size_t i = 0; i < RR_COUNT(operands) && !rc; i++)
        if (operands[i].col + operands[i].width > rr_cpu_width(c->p, operands[i].reg))
            rc = rr_fail(c->err, RR_EINVAL,
                         "%s are columns %" PRIu32 " to %" PRIu64 " of register %" PRIu32
                         ", which is %" PRIu32 " wide",
                         operands[i].what, operands[i].col, operands[i].col + operands[i].width,
                         operands[i].reg, rr_cpu_width(c->p, operands[i].reg));
    if (!rc && (c->op->dst == c->op->src || c->op->dst == a->kv))
        rc = rr_fail(c->err, RR_EINVAL, "destination is also a source, register %" PRIu32,
                     c->op->dst);
    if (!rc) rc = check_relative(c);
    return rc;
}

static int check_op(const struct check *c)
{
    int rc = RR_OK;

    if (c->op->dst >= c->p->n_registers)
        return rr_fail(c->err, RR_EINVAL, "destination is register %" PRIu32 ", there are %" PRIu32,
                       c->op->dst, c->p->n_registers);
    if (c->op->kind != RR_OP_EMBED) rc = check_read(c, "source", c->op->src);
    if (rc) return rc;
    switch (c->op->kind) {
    case RR_OP_EMBED: return check_embed(c);
    case RR_OP_FIRST:
    case RR_OP_LAST:
    case RR_OP_MEAN: return check_pool(c);
    case RR_OP_LINEAR: return check_linear(c);
    case RR_OP_NORM: return check_norm(c);
    case RR_OP_GLU: return check_glu(c);
    case RR_OP_ROTARY: return check_rotary(c);
    case RR_OP_ATTENTION: return check_attention(c);
    }
    return rr_fail(c->err, RR_ENOTSUP, "kind %d is not known", (int)c->op->kind);
}

static int check_counts(const struct rr_program *p, const struct rr_limits *l,
                        struct rr_error *err)
{
    if (p->n_ops < 1 || p->n_ops > MAX_COUNT || p->n_registers > MAX_COUNT ||
        p->n_tensors > MAX_COUNT)
        return rr_fail(err, RR_EINVAL,
                       "program of %" PRIu32 " operations, %" PRIu32 " registers, %" PRIu32
                       " tensors; expected 1 to %u operations and no more of the others",
                       p->n_ops, p->n_registers, p->n_tensors, MAX_COUNT);
    for (uint32_t i = 0; i < p->n_registers; i++) {
        if (p->registers[i].width < 1 || p->registers[i].width > MAX_WIDTH)
            return rr_fail(err, RR_EINVAL,
                           "register %" PRIu32 " is %" PRIu32 " wide, expected 1 to %u", i,
                           p->registers[i].width, MAX_WIDTH);
        if ((unsigned)p->registers[i].rows > RR_ROWS_SEQUENCES)
            return rr_fail(err, RR_EINVAL, "register %" PRIu32 ": rows of kind %d are not known",
                           i, (int)p->registers[i].rows);
    }
    if (l->max_tokens < 1 || l->max_tokens > MAX_TOKENS || l->max_sequences < 1 ||
        l->max_length < 1)
        return rr_fail(err, RR_EINVAL,
                       "limits of %" PRIu32 " tokens, %" PRIu32 " sequences, %" PRIu32
                       " tokens each; expected at least 1 of each and at most %u tokens",
                       l->max_tokens, l->max_sequences, l->max_length, MAX_TOKENS);
    return RR_OK;
}

int rr_cpu_check(const struct rr_program *p, const struct rr_limits *limits, struct rr_error *err)
{
    struct check c = { .p = p, .err = err };
    int rc = check_counts(p, limits, err);

    if (rc) return rc;
    c.written = rr_calloc(RR_MEM_MISC, p->n_registers, sizeof(*c.written));
    if (!c.written) return rr_fail(err, RR_ENOMEM, "out of memory checking the program");
    for (c.index = 0; c.index < p->n_ops && !rc; c.index++) {
        c.op = &p->ops[c.index];
        rc = check_op(&c);
        if (rc)
            rc = wrong(&c, rc);
        else
            c.written[c.op->dst] = true;
    }
    if (!rc && (p->output >= p->n_registers || !c.written[p->output]))
        rc = rr_fail(err, RR_EINVAL, "output is register %" PRIu32 ", which nothing has written",
                     p->output);
    if (!rc && (p->registers[p->output].rows != RR_ROWS_SEQUENCES ||
                p->registers[p->output].width != 1))
        rc = rr_fail(err, RR_EINVAL,
                     "output, register %" PRIu32 ", has %" PRIu32
                     " columns and a row for each of the %s, expected 1 and sequences",
                     p->output, p->registers[p->output].width,
                     rows_name(p->registers[p->output].rows));
    rr_free(c.written);
    return rc;
}
