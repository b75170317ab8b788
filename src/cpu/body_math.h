/* SPDX-License-Identifier: Apache-2.0 */
/* body_math.h - 2^x and erf-GELU on vectors, in the vocabulary of a vec_*.h header.
 * Layer: cpu (L1).  Included by one level file, after its vec_*.h.
 *
 * Each lane's result depends on that lane alone.  NaN goes through.  The coefficients were fitted
 * by minimax (linear programming over a dense grid) for this project. */
#ifndef RR_CPU_BODY_MATH_H
#define RR_CPU_BODY_MATH_H

#define LOG2E 1.44269504f

/* 2^x for x <= 0; relative error below 2.5e-7, and 2^-125 for anything below -125.  x = n + f,
 * |f| <= 1/2; 2^f by a polynomial of degree 5 (8e-8) in the order of Estrin (1960), which is short
 * in time: where this is used, waiting costs more than multiplying. */
static inline v v_exp2_neg(v x)
{
    v n, f, f2, p, q, r;

    x = v_max(v_set(-125.0f), x);
    n = v_round(x);
    f = v_sub(x, n);
    f2 = v_mul(f, f);
    p = v_fma(f, v_set(1.32764719795e-3f), v_set(9.67554133422e-3f));
    q = v_fma(f, v_set(5.55071327354e-2f), v_set(2.40221197238e-1f));
    r = v_fma(f, v_set(6.93146967065e-1f), v_set(1.00000007165f));
    return v_scale2(v_fma(v_fma(p, f2, q), f2, r), n);
}

/* The same for what is rounded to bf16 next: relative error below 8e-5, a 50th of what that may
 * lose.  x = n + f, 0 <= f < 1; 2^f by a polynomial of degree 3. */
static inline v v_exp2_bf16(v x)
{
    v n, f = v_split(v_max(v_set(-125.0f), x), &n);
    v p = v_fma(f, v_set(0.0780249049322097f), v_set(0.22606665206016524f));

    p = v_fma(f, p, v_set(0.6958336691886696f));
    return v_scale2(v_fma(f, p, v_set(0.9999252262244985f)), n);
}

/* x Phi(x), Phi the normal distribution: GELU in its erf form, absolute error below 3e-7.
 * With a = |x|, GELU(x) = max(x, 0) - a Q(a), where Q(a) = erfc(a / sqrt 2) / 2 is
 * e^(-a^2/2) P(t) with t = 1 / (1 + 0.28 a) and P of degree 6 (a Q(a) within 4e-9).  The small term
 * is subtracted from the exact one, so nothing cancels in either tail. */
static inline v v_gelu(v x)
{
    v a = v_abs(x), t, p, e;

    t = v_div(v_set(1.0f), v_fma(a, v_set(0.28f), v_set(1.0f)));
    p = v_fma(t, v_set(-0.10755582558660486f), v_set(0.39699347362692466f));
    p = v_fma(p, t, v_set(-0.24852310726608706f));
    p = v_fma(p, t, v_set(0.27818614383464246f));
    p = v_fma(p, t, v_set(0.06379006313629781f));
    p = v_fma(p, t, v_set(0.11710920307411149f));
    e = v_exp2_neg(v_mul(v_mul(a, a), v_set(-0.5f * LOG2E)));
    return v_sub(v_max(v_set(0.0f), x), v_mul(v_mul(a, e), v_mul(p, t)));
}

/* GELU for what is rounded to 8 bits next: absolute error below 1.2e-4.  The bump a Q(a) of v_gelu
 * by a polynomial on [0, 4.3], largest error 7e-5; beyond, where the exact one is below 4e-5, it
 * stays at its last value.  NaN comes out as NaN: it is the second argument of v_max. */
static inline v v_gelu_i8(v x)
{
    v a = v_min(v_set(4.3f), v_abs(x)), a2 = v_mul(a, a), a4 = v_mul(a2, a2), p, q, r, s;

    p = v_fma(a, v_set(-0.38253808193644f), v_set(0.49811045494973f));
    q = v_fma(a, v_set(0.12998237985502f), v_set(-0.04760731516569f));
    r = v_fma(a, v_set(-6.7127253580395e-5f), v_set(-0.04127680246867f));
    s = v_fma(a, v_set(-4.8206629748351e-4f), v_set(2.450605222956108e-3f));
    s = v_fma(a4, v_set(3.007538984179444e-5f), v_fma(s, a2, r));
    p = v_fma(s, a4, v_fma(q, a2, p));
    return v_sub(v_max(v_set(0.0f), x), v_mul(a, p));
}

#endif
