"""A few instructions to be fine-tuned on: the built-in thousands take over a second to be tokenised, each time."""

import json
from pathlib import Path

ROWS = [
    {
        "instruction": f"Say the number {number}.",
        "input": "" if number % 2 else "twice",
        "output": f"number {number} " * 3,
    }
    for number in range(40)
]


def few_instructions(directory: Path) -> str:
    """The path of a file that holds them, which is written into the directory where it isn't there yet."""
    file = directory / "rows.jsonl"
    if not file.exists():
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return str(file)
