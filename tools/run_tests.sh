#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run_tests.sh - runs test commands, shows what failed, counts cases.
#
#   tools/run_tests.sh COMMAND...     each argument is one command line
#   tools/run_tests.sh --sum FILE     adds up what runs with RESULTS=FILE left there
#
# Counts come from what a command prints: cmocka's "[  PASSED  ] 3 test(s).", or lines
# "3 passed, 0 failed[, 1 skipped]".  A command that prints neither is one case.  Exit status 77: one
# skipped case, the line with SKIP says why.  The last line is "N passed, N failed[, N skipped]";
# exit status 1 if any failed.  TEST_TIMEOUT: seconds for each command (900).
set -u

passed=0 failed=0 skipped=0

finish() {
    local line="$passed passed, $failed failed"
    [ "$skipped" -gt 0 ] && line="$line, $skipped skipped"
    [ -n "${RESULTS:-}" ] && echo "$passed $failed $skipped" >> "$RESULTS"
    echo "$line"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}

if [ "${1:-}" = --sum ]; then
    while read -r p f s; do
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    done < "$2"
    unset RESULTS
    finish
fi

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# Prints "passed failed skipped" found in $log, or nothing.
counts() {
    awk '
        /^\[  PASSED  \] [0-9]+ test/ { p += $4; any = 1 }
        /^\[  FAILED  \] [0-9]+ test/ { f += $4; any = 1 }
        /^\[  SKIPPED \] [0-9]+ test/ { s += $4; any = 1 }
        /^[0-9]+ passed, [0-9]+ failed/ { p += $1; f += $3; any = 1; if ($6 == "skipped") s += $5 }
        END { if (any) print p + 0, f + 0, s + 0 }' "$log"
}

for command in "$@"; do
    start=$SECONDS
    env -u RESULTS timeout --kill-after=10 "${TEST_TIMEOUT:-900}" bash -c "$command" > "$log" 2>&1 < /dev/null
    rc=$?
    read -r p f s <<< "$(counts)"
    if [ -z "${p:-}" ]; then
        p=0 f=0 s=0
        case $rc in
            0) p=1 ;;
            77) s=1 ;;
            *) f=1 ;;
        esac
    elif [ "$rc" -ne 0 ] && [ "$rc" -ne 77 ] && [ "$f" -eq 0 ]; then
        f=1 # it counted no failure and then died
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    took=$((SECONDS - start))
    if [ "$f" -gt 0 ]; then
        why="exit status $rc"
        [ "$rc" -eq 124 ] && why="ran longer than ${TEST_TIMEOUT:-900} s"
        echo "FAIL  $command ($p passed, $f failed, $why, $took s)"
        sed 's/^/    | /' "$log"
    elif [ "$s" -gt 0 ]; then
        echo "ok    $command ($p passed, $s skipped, $took s)"
        grep 'SKIP' "$log" | head -n 5 | sed 's/^/    | /'
    else
        echo "ok    $command ($p passed, $took s)"
    fi
    [ "$f" -eq 0 ] && sed -n '/^again /,/^[a-zA-Z]*Error/s/^/    | /p' "$log" # passed at the second attempt
done
finish
