// SPDX-License-Identifier: Apache-2.0
// metrics.js - Prometheus text to numbers, and what two readings say about the time between them.

// {name: [{labels: {...}, value}]}
function parseMetrics(text) {
  const families = {};
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    (families[found[1]] ??= []).push({ labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return families;
}

function matches(series, wanted) {
  return Object.entries(wanted ?? {}).every(([name, value]) => series.labels[name] === value);
}

// Sum over all series with these labels; whatever other labels there are (a model's name) is added up.
function total(families, name, wanted) {
  return (families[name] ?? []).filter((s) => matches(s, wanted)).reduce((sum, s) => sum + s.value, 0);
}

// A counter that fell was started anew with its process.
function increase(before, after, name, wanted) {
  const a = total(before, name, wanted), b = total(after, name, wanted);
  return b >= a ? b - a : b;
}

// Quantiles of what a histogram has counted between two readings, by interpolation within a bucket as
// Prometheus does it; null when nothing was counted.
function quantiles(before, after, name, wanted, shares) {
  const at = (families) => {
    const sums = new Map();
    for (const s of families[name + "_bucket"] ?? []) {
      if (!matches(s, wanted)) continue;
      const bound = Number(s.labels.le.replace("Inf", "Infinity"));
      sums.set(bound, (sums.get(bound) ?? 0) + s.value);
    }
    return sums;
  };
  const old = at(before);
  const buckets = [...at(after)].sort((x, y) => x[0] - y[0]).map(([bound, n]) => [bound, n - (old.get(bound) ?? 0)]);
  const count = buckets.at(-1)?.[1] ?? 0;
  if (!(count > 0)) return shares.map(() => null);
  return shares.map((share) => {
    const wantedRank = share * count, i = buckets.findIndex(([, n]) => n >= wantedRank);
    const [bound, n] = buckets[i], [low, below] = i > 0 ? buckets[i - 1] : [0, 0];
    if (bound === Infinity) return low;
    return low + (bound - low) * (n > below ? (wantedRank - below) / (n - below) : 1);
  });
}
