"""Where the benchmarks lie on this machine."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def benchmark_data() -> Path:
    """The directory of benchmarks in the hub's schemas; skips the test where there is none."""
    given = os.environ.get("NASFARM_DATA")
    directory = Path(given) if given else ROOT.parent / "shared" / "data"
    if not (directory / "arc_easy").is_dir():
        import pytest  # not everybody who imports this has it

        pytest.skip("needs the benchmark data: set NASFARM_DATA")
    return directory
