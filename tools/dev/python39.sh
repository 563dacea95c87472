#!/usr/bin/env bash
# Prints the path of a Python 3.9, the oldest that pilots support (the system's on EL9): an installed one, or Debian
# 11's, unpacked with its libraries into .python39/. This takes about 20 s once and changes nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD

# Parallel tests may run this at the same time.
exec 9>.python39.lock
flock 9

works() { "$1" -c 'import ctypes, ssl, sys, venv; sys.exit(sys.version_info[:2] != (3, 9))' >/dev/null 2>&1; }

for candidate in "${PANDAWN_PYTHON39:-}" "$(command -v python3.9 || true)" "$root/.python39/usr/bin/python3.9"; do
    if [ -n "$candidate" ] && works "$candidate"; then
        echo "$candidate"
        exit
    fi
done

stop() { echo "python39: $*; or name one in PANDAWN_PYTHON39" >&2; exit 1; }
command -v apt-get >/dev/null || stop "no Python 3.9 found, and no apt-get to fetch it with"
if ! command -v patchelf >/dev/null; then
    [ "$(id -u)" = 0 ] || stop "patchelf is missing; as root: apt-get install --no-install-recommends patchelf"
    tools/dev/apt_install.sh patchelf >&2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,debs,tree}
# The mirror of this machine, for the previous release.
mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d/ 2>/dev/null |
    grep -v snapshot | head -n 1 | tr -d ' ' || true)
[ -n "$mirror" ] || stop "no mirror of Debian in /etc/apt"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" \
    >"$work/sources.list"
# An empty status file, so that packages which this machine has are downloaded too.
touch "$work/status"
fetch() {
    apt-get -o Dir::State::lists="$work/lists" -o Dir::Cache::archives="$work/archives" -o Dir::Cache::pkgcache= \
        -o Dir::Cache::srcpkgcache= -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::status="$work/status" -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o APT::Sandbox::User="$(id -un)" --quiet "$@"
}
packages=(python3.9 python3.9-minimal libpython3.9-minimal libpython3.9-stdlib python3-distutils python3-lib2to3
    libssl1.1 libffi7 libmpdec3)
log=$work/log
{ fetch update && cd "$work/debs" && fetch download "${packages[@]}"; } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
for package in "$work"/debs/*.deb; do dpkg-deb --extract "$package" "$work/tree"; done
cd "$root"
rm -rf .python39
cp -a "$work/tree" .python39
# Debian 12 has newer versions of these libraries. The path is set in the program, because pilots clear their environment.
patchelf --force-rpath --set-rpath "$root/.python39/usr/lib/$(uname -m)-linux-gnu" .python39/usr/bin/python3.9
works .python39/usr/bin/python3.9 || stop "Debian 11's Python does not run here"
echo "$root/.python39/usr/bin/python3.9"
