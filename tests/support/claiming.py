"""Claims a GPU in a process of its own, and keeps it until its input ends: `python -m tests.support.claiming LOCKS`."""

import os
import sys
from pathlib import Path

from services.evaluator.gpu import claim_gpu
from shared.errors import UserError

if __name__ == "__main__":
    try:
        claimed = claim_gpu(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
    print(claimed, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    sys.stdin.read()
