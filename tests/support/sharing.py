"""Five searches of one recipe: they differ in what they ask of the same super-network."""

from pathlib import Path
from typing import Any

from tests.support.command import search_file
from tests.support.instructions import few_instructions

STEPS = 40
DIFFERENT: dict[str, dict[str, Any]] = {
    "accuracy": {},
    "normalised": {
        "tasks": [{"name": "plain_facts", "metric": "acc_norm", "search": {"items": 90}, "report": {"items": 80}}]
    },
    "few-shot": {
        "tasks": [{"name": "plain_facts", "num_fewshot": 2, "search": {"items": 60}, "report": {"items": 50}}]
    },
    "evolved": {"search": {"strategy": "nsga2", "evaluations": 20, "population": 6, "seed": 3}},
    "reseeded": {"search": {"evaluations": 16, "population": 8, "seed": 9}},
}


def five_search_files(directory: Path) -> dict[str, Path]:
    """The search files, by the names of the searches, in the order in which they are begun."""
    training = {
        "data": few_instructions(directory),
        "steps": STEPS,
        "tokens_per_step": 256,
        "calibration_tokens": 512,
        "learning_rate": 1e-3,
        "checkpoint_every_seconds": 0.05,
    }
    usual: dict[str, Any] = {
        "training": training,
        "tasks": [{"name": "plain_facts", "search": {"items": 60}, "report": {"items": 50}}],
        "search": {"evaluations": 16, "population": 8},
    }
    files = {}
    for name, changes in DIFFERENT.items():
        files[name] = search_file(directory, **{**usual, "name": name, **changes}).rename(directory / f"{name}.yaml")
    return files
