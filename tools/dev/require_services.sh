#!/usr/bin/env bash
# Checks for the programs that the tests start: PostgreSQL, PgBouncer, memcached and XRootD, tools that make networks,
# certificates and file systems for the sites that they set up, and grpcurl. Starts nothing and uses no port. As root
# on Debian it installs missing packages; otherwise it prints what to do. The optional arguments are the packages to check.
set -euo pipefail

wanted=" ${*:-postgresql pgbouncer memcached xrootd-server xrootd-client iproute2 openssl e2fsprogs strace jq golang-go} "
here=$(dirname "${BASH_SOURCE[0]}")
missing=()
need() { if [[ $wanted == *" $1 "* ]]; then missing+=("$1"); fi; }
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need postgresql
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || need pgbouncer
command -v memcached >/dev/null || [ -x /usr/bin/memcached ] || need memcached
command -v xrootd >/dev/null || need xrootd-server
command -v xrdcp >/dev/null || need xrootd-client
command -v ip >/dev/null || need iproute2
command -v openssl >/dev/null || need openssl
command -v strace >/dev/null || need strace
command -v mkfs.ext4 >/dev/null || [ -x /sbin/mkfs.ext4 ] || need e2fsprogs
command -v jq >/dev/null || need jq
# Needed only to build grpcurl.
command -v grpcurl >/dev/null || [ -x "$here/../../.tools/bin/grpcurl" ] || command -v go >/dev/null || need golang-go

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        cat >&2 <<END
tests: missing ${missing[*]}. On Debian, as root:
    apt-get install --no-install-recommends ${missing[*]}
Without them: .venv/bin/pytest skips the tests that need them.
END
        exit 1
    fi
    echo "tests: installing ${missing[*]} by apt" >&2
    "$here/apt_install.sh" "${missing[@]}"
fi
if [[ $wanted == *" golang-go "* ]] && ! command -v grpcurl >/dev/null; then
    "$here/grpcurl.sh" || echo "tests: without grpcurl, those of clients in other languages are skipped, or fail in CI" >&2
fi
