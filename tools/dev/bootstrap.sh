#!/usr/bin/env bash
# Builds .venv at the root of the repository from requirements.lock; the machine needs only a Python.
#
#   bootstrap.sh venv      make or refresh .venv
#   bootstrap.sh uv ARGS   run uv with the settings this script found, e.g. `uv pip compile ...`
#
# Environment: PYTHON names the interpreter (default: the first of python3, python3.14 ... python3.11 that is 3.11+).
set -euo pipefail
# Otherwise `stop` inside $(...) inside a function would end only the substitution.
shopt -s inherit_errexit

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

say() { printf 'bootstrap: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

is_recent_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null && is_recent_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    stop "no Python 3.11 or newer found; on Debian: apt-get install python3"
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Debian splits pip from Python, and the two need not belong to the same prefix: any interpreter with pip will do,
# because pip only unpacks uv's binary into a directory.
find_pip_python() {
    local candidate
    for candidate in "$python" /usr/bin/python3; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    can_apt || stop "pip is missing; as root: apt-get install --no-install-recommends python3-pip"
    say "installing python3-pip by apt"
    tools/dev/apt_install.sh python3-pip >&2
    echo /usr/bin/python3
}

find_uv() {
    if command -v uv >/dev/null; then
        command -v uv
        return
    fi
    local wanted=tools/dev/uv-requirements.txt
    if ! [ .uv/stamp -nt "$wanted" ]; then
        local pip_python
        pip_python=$(find_pip_python)
        say "getting uv by pip"
        rm -rf .uv
        # --target does not touch the system's packages, so PEP 668 does not forbid it.
        PIP_ROOT_USER_ACTION=ignore "$pip_python" -m pip install --quiet --disable-pip-version-check \
            --no-deps --require-hashes --target .uv --requirement "$wanted" >&2
        touch .uv/stamp
    fi
    echo "$root/.uv/bin/uv"
}

# uv does not read pip's configuration, and on many sites that is the only place that knows the index, the proxy or
# the certificate. Without pip there is no configuration to carry over.
adopt_pip_settings() {
    local pip_python
    for pip_python in "$python" /usr/bin/python3; do
        if "$pip_python" -m pip --version >/dev/null 2>&1; then
            eval "$("$pip_python" tools/dev/pip_settings.py)"
            return
        fi
    done
}

build_venv() {
    if ! { [ -x .venv/bin/python ] && is_recent_python .venv/bin/python; }; then
        "$uv" venv --quiet --clear --no-python-downloads --python "$python" .venv
    fi
    rm -f .venv/.stamp
    say "installing the locked packages into .venv"
    "$uv" pip sync --quiet --compile-bytecode --python .venv/bin/python --require-hashes requirements.lock
    # No isolation: the build backend is in the lock too, and only locked packages may be installed.
    "$uv" pip install --quiet --python .venv/bin/python --offline --no-deps --no-build-isolation \
        --editable ./pilot_client --editable .
    touch .venv/.stamp
    say "done: $root/.venv"
}

python=$(find_python)
uv=$(find_uv)
adopt_pip_settings

case "${1:-}" in
    venv) build_venv ;;
    uv) shift; exec "$uv" "$@" ;;
    *) stop "usage: bootstrap.sh venv | uv ARGS" ;;
esac
