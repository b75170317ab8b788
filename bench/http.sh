#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# http.sh - what HTTP and JSON cost: requests per second, latency, and processor time of the server
# per request, measured with wrk on the same machine.  Exit status 77 without wrk.
#     OUT=build SECONDS_EACH=5 TURNS=9 bench/http.sh [null|starter]...
#
# null: 20 documents of 500 characters, a device that answers at once, no cache.
# starter: the built-in model, beside "rerankd bench" with as many tokens, TURNS turns of the two.
set -eu

out=${OUT:-build}
each=${SECONDS_EACH:-5}
here=$(dirname "$0")
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

command -v wrk >/dev/null || { echo "http.sh: wrk is not there (apt-get install wrk)" >&2; exit 77; }

# start OPTIONS...: a server at $url
start() {
    : > "$work/log"
    "$out/rerankd" serve --config none --host 127.0.0.1 --port 0 --cache-size 0 --drain-delay 0 "$@" \
        2> "$work/log" & server=$!
    for _ in $(seq 100); do
        url=$(sed -n 's/.*ready .*:\([0-9][0-9]*\).*/http:\/\/127.0.0.1:\1/p' "$work/log")
        [ -z "$url" ] || return 0
        sleep 0.1
    done
    cat "$work/log" >&2
    exit 1
}

stop() {
    kill "$server"
    wait "$server" || true
    server=
}

ticks() { # user and system time of the server so far, in 1/100 s
    awk '{ print $14, $15 }' "/proc/$server/stat"
}

# load LABEL CONNECTIONS: one row
load() {
    wrk -t1 -c"$2" -d1s -s "$here/http.lua" "$url" > /dev/null
    before=$(ticks)
    wrk -t1 -c"$2" -d"${each}s" --latency -s "$here/http.lua" "$url" > "$work/wrk"
    echo "$before $(ticks)" | awk -v label="$1" -v connections="$2" -v hz="$(getconf CLK_TCK)" '
        FNR == NR { user = $3 - $1; system_ = $4 - $2; next }
        $1 == "50%" { p50 = $2 }
        $1 == "99%" { p99 = $2 }
        /requests in/ { n = $1 }
        /Requests\/sec/ { rate = $2 }
        /Non-2xx/ { bad = ", not answered with 2xx: " $NF }
        END {
            us = 1e6 / hz / n
            printf "%-8s %3d connections %8.0f requests/s  p50 %-9s p99 %-9s user %.0f + system %.0f " \
                   "us a request%s\n", label, connections, rate, p50, p99, user * us, system_ * us, bad
        }' - "$work/wrk"
}

null_device() {
    start --device null:base_us=0,per_token_ns=0 --log-level info
    for form in plain utf8 escaped; do
        export FORM=$form
        load "$form" 1
        load "$form" 16
    done
    stop
}

sample() { # of the server: the time, and the tokens that it has computed
    curl -s "$url/metrics" | awk -v now="$(date +%s.%N)" '
        /^rerank_tokens_total/ { print now, $2 }'
}

# rate CONNECTIONS: tokens a second between two moments in the middle of a load.  What wrk counts
# leaves out the requests that its end cuts off, 2 of 25 in a second.
rate() {
    wrk -t1 -c"$1" -d"$((each + 1))s" -s "$here/http.lua" "$url" > /dev/null & load=$!
    sleep 0.5
    first=$(sample)
    sleep "$each"
    echo "$first $(sample)" | awk '{ print ($4 - $2) / ($3 - $1) }'
    wait "$load"
}

# The two in turns, in tokens a second.  The documents make pairs of nearly equal length, and those
# of "rerankd bench" are as long on average.  It says the mean of its runs: so does a rate.
starter() {
    export FORM=utf8 UNIQUE=1
    start --log-level info
    wrk -t1 -c1 -d1s -s "$here/http.lua" "$url" > /dev/null
    tokens=$(curl -s "$url/metrics" | awk '/^rerank_pair_tokens_sum/ { t = $2 }
                                           /^rerank_pair_tokens_count/ { printf "%.0f", t / $2 }')
    for _ in $(seq "${TURNS:-9}"); do
        "$out/rerankd" bench --config none --shapes "20x$tokens" --seconds "$each" --runs 1000 \
            --format csv | awk -F, 'FNR > 1 { print "bench", $9 / $13 * 1e3 }'
        for connections in 1 2 4 8; do
            echo "$connections $(rate "$connections")"
        done
    done > "$work/turns"
    for connections in 1 2 4 8; do
        awk -v c="$connections" '$1 == "bench" { bench = $2 }
                                 $1 == c { print 100 * $2 / bench, $2, bench }' "$work/turns" |
            sort -n | awk -v tokens="$tokens" -v c="$connections" '
                { percent[NR] = $1; http[NR] = $2; bench[NR] = $3 }
                END { m = int((NR + 1) / 2)
                      printf "20x%d, %d connections, %d turns: over HTTP %.1f to %.1f %% of the rate " \
                             "without, median %.1f %% (%.0f and %.0f tokens/s)\n", tokens, c, NR,
                             percent[1], percent[NR], percent[m], http[m], bench[m] }'
    done
    stop
}

[ $# -gt 0 ] || set -- null starter
for what; do
    case $what in
    null) null_device ;;
    starter) starter ;;
    *) echo "http.sh: found $what, expected null or starter" >&2; exit 2 ;;
    esac
done
