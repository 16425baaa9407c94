#!/bin/sh
# Compress every file of a tree, four at a time, and check each archive against its file.
set -eu
tree=$(cd "${1:?a directory is needed}" && pwd)

map=$(find "$tree" -type f ! -name '*.gz' | sort |
    raftsched map --items - --max-parallel 4 --attempts 2 --name compress --wait \
        -- gzip --keep --force -9 '{item}')

raftsched results -o table "$map"
find "$tree" -type f ! -name '*.gz' | while read -r file; do
    gzip -dc "$file.gz" | cmp - "$file"
done
echo "ok: $(find "$tree" -type f -name '*.gz' | wc -l) archives are what their files are"
