#!/bin/sh
# Generates the stubs of the worker's half of the contract into generated/ (or into the folder that is given), with grpcio-tools.
# PYTHON names the interpreter that has them; default is the virtual environment of the README, else python3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../../proto
out=${1:-$here/generated}
python=${PYTHON:-$here/.venv/bin/python}
command -v "$python" >/dev/null 2>&1 || python=python3
mkdir -p "$out"
"$python" -m grpc_tools.protoc -I"$proto" -I"$proto/third_party" --python_out="$out" --grpc_python_out="$out" \
  leasehold/v1/task.proto leasehold/v1/worker_service.proto google/rpc/status.proto
