"""Memory that writing a GGUF file takes, measured from outside: run as
`python -m tests.support.gguf_memory MODEL DIRECTORY TYPE`, prints JSON.

A process of its own, because memory that was given back earlier would be used again unseen.
"""

import json
import sys
from pathlib import Path
from typing import cast

from services.exporter.gguf import Gguf
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork
from shared.architecture import dense
from shared.supernet.checkpoint import Checkpoint
from tests.support.int8_memory import status


def main() -> None:
    """Write the whole network of a checkpoint; print its bytes in `float32` and what was held at the `peak`."""
    model, directory, kind = sys.argv[1:]
    checkpoint = Checkpoint.open(Path(model))
    network, written = ExportedNetwork(checkpoint, dense(checkpoint.network)), Gguf(cast(GgufType, kind))
    written.require_possible(network)  # loads what is needed but once
    for tensor in checkpoint.weights.values():
        tensor.sum()  # reads the file, whose pages count as memory of this process
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before = status("VmRSS")
    written.write(network, Path(directory), lambda _: None)
    print(json.dumps({"float32": Gguf("f32").bytes(network), "peak": status("VmHWM") - before}))


if __name__ == "__main__":
    main()
