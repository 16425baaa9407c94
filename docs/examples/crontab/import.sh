#!/bin/sh
# Import a crontab twice (the second time changes nothing), look at it, run its last line now.
set -eu
crontab=${1:-$(dirname "$0")/crontab}

fail() { echo "$1" >&2; exit 1; }

raftsched schedule import-crontab --system --no-user --prefix debian- "$crontab"
again=$(raftsched schedule import-crontab --system --no-user --prefix debian- "$crontab" -o ndjson)
echo "$again" | grep -v '"action": "none"' && fail "the second import changed something"

names=$(raftsched schedule ls -o id | grep '^debian-')
test "$(echo "$names" | wc -l)" = "$(grep -c '^[0-9*]' "$crontab")" || fail "a line is missing"
raftsched schedule ls

last=$(raftsched schedule ls -o ndjson | grep 'still here' | sed 's/.*"name": "\(debian-[^"]*\)".*/\1/')
run=$(raftsched schedule trigger "$last" -o id)
raftsched wait "$run" > /dev/null
raftsched logs "$run" | grep -q 'still here' || fail "the last line did not run"
raftsched logs "$run" | grep -q "$(date +%Y)" || fail "%% was not read as cron reads it"
echo "ok: $(echo "$names" | wc -l) lines are schedules, one of them ran"
