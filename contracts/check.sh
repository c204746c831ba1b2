#!/usr/bin/env bash
# Proves that the committed artifacts and generated files are exactly what the sources give.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
fresh="$(mktemp -d)"
trap 'rm -rf "$fresh"' EXIT

"$here/build.sh" --into "$fresh" > "$fresh/log" 2>&1 || { cat "$fresh/log" >&2; exit 1; }
node "$here/build.mjs" --source "$root/tests/unit/codegen/sample" --out "$fresh/sample" Sample > /dev/null

differences=0
compare() { # fresh file, committed file
    if ! cmp -s "$1" "$2"; then
        echo "differs from a fresh build: ${2#"$root"/}" >&2
        case "$2" in *.boc) ;; *) diff -u "$2" "$1" 2>/dev/null | sed -n '3,22p' >&2 || true ;; esac
        differences=$((differences + 1))
    fi
}
for file in "$fresh"/artifacts/*; do compare "$file" "$root/cocoon_sdk/contracts/artifacts/${file##*/}"; done
for file in "$fresh"/protocol/*; do compare "$file" "$root/cocoon_sdk/protocol/${file##*/}"; done
for file in "$fresh"/sample/*; do compare "$file" "$root/tests/unit/codegen/sample/${file##*/}"; done
compare "$fresh/schema.tlb" "$here/schema.tlb"
# What ran before the present code has no sources any more: artifacts/previous.
for file in "$root"/cocoon_sdk/contracts/artifacts/*.*; do
    if [ ! -e "$fresh/artifacts/${file##*/}" ]; then
        echo "no source builds it: ${file#"$root"/}" >&2
        differences=$((differences + 1))
    fi
done
if [ "$differences" -gt 0 ]; then
    echo "$differences generated file(s) out of date: run make contracts" >&2
    exit 1
fi
echo "contracts: a fresh build is bit-identical"
