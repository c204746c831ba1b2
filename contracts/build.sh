#!/usr/bin/env bash
# Compiles the suite and regenerates everything that is derived from it.
#
#   contracts/build.sh                   rebuild the committed artifacts, Python modules and schema.tlb
#   contracts/build.sh --into DIR        the same into DIR/{artifacts,protocol,schema.tlb}
#
# COCOON_PARTIAL=1 builds the contracts that exist; PYTHON chooses the interpreter (default: .venv).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
python="${PYTHON:-$root/.venv/bin/python}"
[ -x "$python" ] || python="$(command -v python3)"

artifacts="$root/cocoon_sdk/contracts/artifacts"
protocol="$root/cocoon_sdk/protocol"
schema="$here/schema.tlb"
if [ "${1:-}" = "--into" ]; then
    mkdir -p "$2/artifacts" "$2/protocol"
    artifacts="$2/artifacts" protocol="$2/protocol" schema="$2/schema.tlb"
elif [ $# -gt 0 ]; then
    sed -n '2,7p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi

"$here/install.sh"
if [ -f "$here/messages.tact" ]; then
    "$python" "$here/opcodes.py" "$here/messages.tact"
fi
node "$here/build.mjs" --out "$artifacts"
"$python" "$here/generate.py" --artifacts "$artifacts" --protocol "$protocol" --schema "$schema"
