#!/usr/bin/env bash
# Installs the locked compiler into contracts/node_modules unless this very lock is installed already.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
stamp="node_modules/.lock.sha256"
want="$(sha256sum package-lock.json | cut -d' ' -f1)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    npm ci --loglevel=error
    echo "$want" > "$stamp"
fi
