#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# scores.sh - the starter model at one instruction set level: near the reference in each precision, and
# the same bits whatever the batches and threads.
#
#   RERANKD=build/rerankd tests/levels/scores.sh LEVEL
set -u

level=$1 pairs=models/starter/reference.jsonl failed=0
program=${RERANKD:-build/rerankd}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export RERANKD_CACHE_DIR=none

while read -r dtype tolerance; do
    "$program" verify --golden --isa "$level" --dtype "$dtype" --tolerance "$tolerance" ||
        { echo "FAIL: $level, $dtype is not near the reference"; failed=1; }
    head -n 4 $pairs > "$work/pairs"
    "$program" rank --isa "$level" --dtype "$dtype" --threads 1 "$work/pairs" > "$work/one" &&
        "$program" rank --isa "$level" --dtype "$dtype" --threads 3 --batch-tokens 150 "$work/pairs" > "$work/three" &&
        [ "$(wc -l < "$work/one")" -eq 4 ] && cmp "$work/one" "$work/three" ||
        { echo "FAIL: $level, $dtype gives other bits in other batches"; failed=1; }
done << 'END'
f32 1e-4
bf16 5e-2
int8 0.2
END
exit $failed
