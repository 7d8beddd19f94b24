"""Memory that INT8 takes, measured from outside: run as `python -m tests.support.int8_memory DIRECTORY`, prints JSON.

A process of its own, because memory that an earlier tensor gave back would be used again unseen.
"""

import json
import sys
from pathlib import Path

from shared.architecture import Architecture, dense
from shared.supernet.checkpoint import Checkpoint
from tests.support.process_memory import forget_peak, status


def main() -> None:
    """Quantise the whole network of a checkpoint; print bytes `held` by it and at the `peak` of quantising."""
    checkpoint = Checkpoint.open(Path(sys.argv[1]))
    for tensor in checkpoint.weights.values():
        tensor.sum()  # reads the file, whose pages count as memory of this process
    first = Architecture(layers=(0,), mlp_widths=(checkpoint.network.mlp_widths[0],))
    warm = checkpoint.cut(first.quantized("int8"))  # loads bitsandbytes, and what quantising needs but once
    forget_peak()
    before = status("VmRSS")
    network = checkpoint.cut(dense(checkpoint.network).quantized("int8"))
    print(json.dumps({"held": status("VmRSS") - before, "peak": status("VmHWM") - before}))
    del warm, network


if __name__ == "__main__":
    main()
