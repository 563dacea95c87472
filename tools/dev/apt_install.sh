#!/usr/bin/env bash
# Installs Debian packages, quietly and without starting anything: `apt_install.sh PACKAGE...`. Needs root.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive

# A developer's machine asked for programs, not for daemons: for the time of the installation services are not started
# and PostgreSQL makes no default cluster. What an administrator has put there is left as it is.
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

# The package lists of a fresh image are empty, those of an old one point to versions that are gone: only then is the
# slow update worth it.
if ! install "$@"; then
    apt-get update --quiet >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
    install "$@" || { cat "$log" >&2; exit 1; }
fi
