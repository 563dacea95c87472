#!/usr/bin/env bash
# Builds grpcurl in .tools/bin, with which tests act as clients in other languages. Debian has no package; Go's module
# proxy has the source, and Go verifies it with the public checksum database. Needs Go 1.19 or newer, and half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The newest version that Debian 12's Go can build.
version=v1.8.9
[ ! -x .tools/bin/grpcurl ] || exit 0
echo "tests: building grpcurl $version in .tools/bin" >&2
# Downloads and intermediate files are not kept.
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" && rm -rf "$scratch"' EXIT
GOBIN=$scratch/bin GOPATH=$scratch GOCACHE=$scratch/cache GOFLAGS= CGO_ENABLED=0 \
    go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
mkdir -p .tools/bin
mv "$scratch/bin/grpcurl" .tools/bin/grpcurl
