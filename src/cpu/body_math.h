/* SPDX-License-Identifier: Apache-2.0 */
/* body_math.h - exp and erf-GELU on vectors, in the vocabulary of a vec_*.h header.
 * Layer: cpu (L1).  Included by one level file, after its vec_*.h.
 *
 * Each lane's result depends on that lane alone.  NaN goes through.  The coefficients were fitted
 * by minimax (linear programming over a dense grid) for this project. */
#ifndef RR_CPU_BODY_MATH_H
#define RR_CPU_BODY_MATH_H

/* e^x for x <= 0; relative error below 2e-7, and 2^-126 for anything below -87.3.
 * x = n ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r) with q of degree 4 (3e-9). */
static inline v v_exp_neg(v x)
{
    v n, r, q;

    x = v_max(v_set(-87.3f), x);
    n = v_round(v_mul(x, v_set(1.44269504f)));
    r = v_fma(n, v_set(-0.693145752f), x); /* ln 2 in two parts, the first with 16 zero bits */
    r = v_fma(n, v_set(-1.42860677e-6f), r);
    q = v_fma(r, v_set(1.381431706e-3f), v_set(8.368850686e-3f));
    q = v_fma(q, r, v_set(4.166840017e-2f));
    q = v_fma(q, r, v_set(1.666651964e-1f));
    q = v_fma(q, r, v_set(4.999999404e-1f));
    q = v_fma(v_mul(r, r), q, r);
    return v_scale2(v_add(q, v_set(1.0f)), n);
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
    e = v_exp_neg(v_mul(v_mul(a, a), v_set(-0.5f)));
    return v_sub(v_max(v_set(0.0f), x), v_mul(v_mul(a, e), v_mul(p, t)));
}

#endif
