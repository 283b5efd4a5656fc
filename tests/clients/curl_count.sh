#!/usr/bin/env bash
# curl reads /count of a testbed, is cut off in the middle, and resumes: curl_count.sh http://HOST:PORT
set -uo pipefail

base=${1:?usage: curl_count.sh http://HOST:PORT}
passed=0
failed=0

# check NAME EXPECTED SEEN
check() {
    if [ "$2" == "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED curl: %s\n  expected: %s\n  seen:     %s\n' "$1" "$2" "$3"
    fi
}

# The ids of the stream on stdin, on one line; stops at the id given.
ids() {
    local line seen=""
    while IFS= read -r line; do
        case "$line" in
            id:*) line=${line#id:}; line=${line# }; seen="$seen${seen:+ }$line" ;;
            *) continue ;;
        esac
        [ "$line" == "${1:-}" ] && break
    done
    printf '%s' "$seen"
}

read_count() {
    curl --silent --no-buffer --max-time 20 "$@"
}

check "reads to the end, and the stream ends" \
    "1 2 3 4 5" "$(read_count "$base/count?n=5&interval_ms=10" | ids)"
check "each event is a tick with its number" \
    "5 3" "$(read_count "$base/count?n=5&interval_ms=10" | awk '/^event: ?tick$/ { t++ } /^data: ?[1-5]$/ { d++; if (d == 3) three = substr($0, length($0)) } END { print t, three }')"

# Hangs up behind the third event, while the server goes on counting.
begin=$(read_count "$base/count?n=6&interval_ms=50" | ids 3)
check "is cut off in the middle" "1 2 3" "$begin"
check "resumes behind the last id" \
    "4 5 6" "$(read_count --header "Last-Event-ID: ${begin##* }" "$base/count?n=6&interval_ms=10" | ids)"
check "has nothing left behind the end" \
    "" "$(read_count --header 'Last-Event-ID: 6' "$base/count?n=6&interval_ms=10" | ids)"
check "is an event stream that nothing caches" \
    "200 text/event-stream" "$(read_count --output /dev/null --write-out '%{http_code} %{content_type}' "$base/count?n=1&interval_ms=1" | sed 's/;.*//')"

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
