#!/bin/sh
# Checks a GPU with what is there: a Python with torch for CUDA and transformers, of whatever release, and these sources.
# Nothing is installed. Packages that lie elsewhere are found by PYTHONPATH; PYTHON names another interpreter. Arguments
# are parts of the names of the checks to do.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

command -v "$python" >/dev/null || { echo "test-gpu: $python is not installed; name another one by PYTHON" >&2; exit 1; }
missing=$("$python" -c '
from importlib.util import find_spec
needed = ("torch", "transformers", "tokenizers", "safetensors", "pydantic", "yaml")
print(*(name for name in needed if find_spec(name) is None))')
if [ -n "$missing" ]; then
	echo "test-gpu: $python has no $missing; install them, or name where they lie by PYTHONPATH" >&2
	exit 1
fi

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
# Each check has its own limit; this one is for a GPU that no longer answers.
exec timeout --kill-after=5 475 "$python" -m tests.gpu "$@"
