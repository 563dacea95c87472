#!/usr/bin/env bash
# Builds grpcurl, with which tests play clients of other languages, in .tools/bin. Debian has no package of it; Go's module
# proxy has the source, and Go checks it against the public list of sums. Needs Go 1.19 or newer, and half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The newest that Debian 12's Go can build.
version=v1.8.9
[ ! -x .tools/bin/grpcurl ] || exit 0
echo "tests: building grpcurl $version in .tools/bin" >&2
# What it downloads and compiles on the way is not kept.
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch" && rm -rf "$scratch"' EXIT
GOBIN=$scratch/bin GOPATH=$scratch GOCACHE=$scratch/cache GOFLAGS= CGO_ENABLED=0 \
    go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
mkdir -p .tools/bin
mv "$scratch/bin/grpcurl" .tools/bin/grpcurl
