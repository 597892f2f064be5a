#!/bin/sh
# Generates the stubs of the worker's half of the contract into generated/ (or into the folder that is given), with buf and the plugins of go.mod.
# BUF names a buf; default is the one that `npm ci` installs in this repository.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
out=$(mkdir -p "${1:-$here/generated}" && cd "${1:-$here/generated}" && pwd)
cd "$here"
"${BUF:-$root/node_modules/.bin/buf}" generate "$root" --template buf.gen.yaml --output "$out" \
  --path "$root/proto/leasehold/v1/task.proto" --path "$root/proto/leasehold/v1/worker_service.proto"
