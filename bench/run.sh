#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh - what "make bench" runs: kernels and whole models, printed and appended to build/bench.log
# with machine, commit and time.    OUT=build bench/run.sh
set -eu

out=${OUT:-build}
rerankd=$out/rerankd
isa=$("$rerankd" doctor --json --port 0 | sed -n 's/.*"isa":"\([^"]*\)".*/\1/p' | head -n 1)

failed=$(mktemp)
trap 'rm -f "$failed"' EXIT

run() { # what fails is told, and by the exit status, which is tee's otherwise
    echo "== $*"
    "$@" || echo "FAILED: $*" | tee -a "$failed"
}

{
    date -u '+%Y-%m-%dT%H:%M:%SZ'
    sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | sort | uniq -c
    echo "commit $(git describe --always --dirty 2>/dev/null || echo unknown), load $(cut -d' ' -f1-3 /proc/loadavg)"
    run "$out/tests/kern/checkkern" --bench ${isa:+--isa "$isa"}
    for dtype in f32 bf16 int8; do
        run "$rerankd" bench --quick --config none --dtype "$dtype"
    done
} 2>&1 | tee -a "$out/bench.log"

[ ! -s "$failed" ]
