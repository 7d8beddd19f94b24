#!/bin/sh
# Checks a GPU with what is there: a Python with torch for CUDA, transformers and pydantic, of whatever release, and these
# sources. Nothing is installed. Packages that lie elsewhere are found by PYTHONPATH; PYTHON names another interpreter.
# Arguments are parts of the names of the checks to do.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

command -v "$python" >/dev/null || { echo "test-gpu: $python is not installed; name another one by PYTHON" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "test-gpu: $python is older than 3.11; name another one by PYTHON" >&2
	exit 1
}
# What else is imported comes with these; what single checks need besides, they say themselves.
missing=$("$python" -c '
from importlib.util import find_spec
missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
try:
    from pydantic import ConfigDict  # of its release 2
except ImportError:
    missing.append("pydantic")
print(*missing)')
if [ -n "$missing" ]; then
	echo "test-gpu: $python has no $missing; get it by '$python -m pip install --target DIRECTORY $missing' (on a machine" \
		"with a network and the same Python), and set PYTHONPATH to that directory" >&2
	exit 1
fi
if ! command -v "${CC:-gcc}" >/dev/null && ! command -v clang >/dev/null; then
	echo "test-gpu: there is no C compiler, which Triton needs to launch kernels; install gcc and Python's headers" >&2
fi

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
# Each check has its own limit; this one is for a GPU that no longer answers.
exec timeout --kill-after=5 475 "$python" -m tests.gpu "$@"
