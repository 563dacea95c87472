#!/usr/bin/env bash
# Makes sure that the programs are there which the tests start for themselves: PostgreSQL, memcached and XRootD.
# Nothing is started here and no port is taken. As root on Debian what is missing is installed; otherwise this says
# what to do.
set -euo pipefail

missing=()
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v memcached >/dev/null || [ -x /usr/bin/memcached ] || missing+=(memcached)
command -v xrootd >/dev/null || missing+=(xrootd-server)
command -v xrdcp >/dev/null || missing+=(xrootd-client)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "tests: installing ${missing[*]} by apt" >&2
    exec "$(dirname "${BASH_SOURCE[0]}")/apt_install.sh" "${missing[@]}"
fi

cat >&2 <<END
tests: missing ${missing[*]}. On Debian, as root:
    apt-get install --no-install-recommends ${missing[*]}
Without them: .venv/bin/pytest skips the tests that need them.
END
exit 1
