#!/usr/bin/env bash
# Installs PostgreSQL's server from Debian's packages when it is missing; tests start private servers from it.
# Needs root or sudo without a password for that. Does nothing when the programs are there.
set -euo pipefail

found() {
    command -v initdb >/dev/null && command -v postgres >/dev/null && return
    compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null
}

if found; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "PostgreSQL is missing and this system has no apt-get: install its server, version 11 or newer." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        echo "PostgreSQL is missing: run 'apt-get install postgresql' as root, then try again." >&2
        exit 1
    fi
    as_root=(sudo -n)
fi

export DEBIAN_FRONTEND=noninteractive
# Tests bring their own servers: the package need not make and start one.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Options::=--force-confold postgresql >/dev/null
found || { echo "PostgreSQL was installed, but its programs are not where they should be." >&2; exit 1; }
