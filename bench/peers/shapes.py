# SPDX-License-Identifier: Apache-2.0
"""shapes.py - which documents a shape stands for, the same for every engine.

NxT is N pairs of T tokens.  ragged is 20 pairs whose lengths are the mid-quantiles of a lognormal
distribution of mean 128 and sigma 0.4; raggedX has sigma 0.X.  `rerankd bench` has the same rule.
"""
import math
import re
import statistics

MEAN, COUNT, LONGEST = 128, 20, 512


def lengths(shape):
    ragged = re.fullmatch(r"ragged(\d*)", shape)
    if ragged:
        sigma = float(ragged.group(1) or 4) / 10
        normal = statistics.NormalDist(math.log(MEAN) - sigma * sigma / 2, sigma)
        quantiles = [math.exp(normal.inv_cdf((i + 0.5) / COUNT)) for i in range(COUNT)]
        return [min(LONGEST, math.floor(q + 0.5)) for q in quantiles]
    count, tokens = re.fullmatch(r"(\d+)x(\d+)", shape).groups()
    return [int(tokens)] * int(count)


def batch(shape, vocab):
    """Token ids and mask as a padding engine needs them: [pairs, longest]."""
    import numpy

    rows = lengths(shape)
    random = numpy.random.default_rng(0)
    ids = numpy.full((len(rows), max(rows)), 1, numpy.int64)
    mask = numpy.zeros_like(ids)
    for row, n in enumerate(rows):
        ids[row, :n] = random.integers(5, vocab, n)
        ids[row, 0], ids[row, n - 1] = 0, 2
        mask[row, :n] = 1
    return ids, mask
