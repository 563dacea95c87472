#!/usr/bin/env bash
# Installs Debian packages, quietly and without starting anything: `apt_install.sh PACKAGE...`. Needs root.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive

# A developer's machine needs the programs, not the daemons: during the installation no services are started, and
# PostgreSQL creates no default cluster. Existing policies of an administrator are not changed.
policy=/usr/sbin/policy-rc.d
cluster_policy=/etc/postgresql-common/createcluster.d/no-main-cluster.conf
undo=()
cleanup() { for path in "${undo[@]}"; do rm -f "$path"; done; }
trap cleanup EXIT

if ! [ -e "$policy" ]; then
    undo+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
if ! [ -e "$cluster_policy" ]; then
    undo+=("$cluster_policy")
    mkdir -p "$(dirname "$cluster_policy")"
    printf 'create_main_cluster = false\n' >"$cluster_policy"
fi

log=$(mktemp)
undo+=("$log")
install() { apt-get install --yes --quiet --no-install-recommends "$@" >"$log" 2>&1 </dev/null; }

# Runs the slow update only if the installation fails: a fresh image has no package lists, and those of an old image
# point to versions that no longer exist.
if ! install "$@"; then
    apt-get update --quiet >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
    install "$@" || { cat "$log" >&2; exit 1; }
fi
