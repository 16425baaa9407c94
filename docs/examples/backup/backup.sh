#!/bin/sh
# Set the schedule up in a directory of its own, run it now, then break it and run it again.
set -eu
from=$(cd "$(dirname "$0")" && pwd)
here=$(cd "${1:?a directory is needed}" && pwd)

fail() { echo "$1" >&2; exit 1; }

mkdir -p "$here/data"
echo "what is to be kept" > "$here/data/file"
rm -f "$here/alerts"
sed "s|HERE|$here|g" "$from/backup.toml" > "$here/backup.toml"
raftsched schedule apply -f "$here/backup.toml"
raftsched schedule preview backup -n 3

night=$(raftsched schedule trigger backup -o id)
raftsched wait "$night" > /dev/null || fail "the backup failed: raftsched tree $night"
raftsched tree "$night"
tar -xzOf "$here/backup.tar.gz" data/file | cmp - "$here/data/file"
test ! -e "$here/alerts" || fail "there was an alert without a reason"

mv "$here/data" "$here/elsewhere"
night=$(raftsched schedule trigger backup -o id)
raftsched wait "$night" > /dev/null && fail "a backup of nothing succeeded"
raftsched tree "$night"
mv "$here/elsewhere" "$here/data"
grep -q '"name":"keep"' "$here/alerts" || fail "there was no alert"
tar -tzf "$here/backup.tar.gz" > /dev/null || fail "the last good backup is gone"
echo "ok: a good night is kept, a bad one raises an alert and keeps the last good one"
