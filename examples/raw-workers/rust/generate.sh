#!/bin/sh
# Writes the descriptors of the worker's half of the contract into generated/contract.binpb (or into the file that is given), with buf; build.rs makes
# the stubs from them. BUF names a buf; default is the one that `npm ci` installs in this repository.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../..
out=${1:-$here/generated/contract.binpb}
mkdir -p "$(dirname "$out")"
"${BUF:-$root/node_modules/.bin/buf}" build "$root" --as-file-descriptor-set --output "$out" \
  --path "$root/proto/leasehold/v1/task.proto" --path "$root/proto/leasehold/v1/worker_service.proto"
