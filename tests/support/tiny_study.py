"""Studies of a tiny network, small enough to be run from end to end."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support.checkpoints import LAYERS, WIDTH, write_checkpoint
from tests.support.instructions import few_instructions


def study_values(directory: Path, **changes: Any) -> dict[str, Any]:
    """A study of a tiny random network, which is written into the directory with its training data."""
    base, data = directory / "base", few_instructions(directory)
    if not base.exists():
        write_checkpoint(base, "llama-grouped-tied")
    training = {
        "data": data,
        "steps": 4,
        "tokens_per_step": 256,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "calibration_tokens": 512,
    }
    space = {"depths": [LAYERS, 4, 3], "mlp_widths": [WIDTH, 3 * WIDTH // 4, WIDTH // 2]}
    return {
        "name": "tiny",
        "model": str(base),
        "supernets": [
            {
                "name": "paper",
                "space": {**space, "depth_rule": "first"},
                "training": {**training, "neuron_order": "none"},
            },
            {"name": "ours", "space": space, "training": {**training, "refit": True}},
        ],
        "tasks": [{"name": "plain_facts", "search": {"items": 12}, "report": {"items": 16}}],
        "search": {"evaluations": 8, "population": 4},
        "sizes": [1.1],
        "candidates": 2,
        "baselines": [{"baseline": "magnitude"}, {"baseline": "slicegpt", "step": 2}],
        "calibration": {"data": data, "tokens": 512},
        "heuristics": [{"name": "theirs", "supernet": "paper", "depth": 4, "layers": [1, 2]}],
        "fine_tuning": {"full": ["magnitude"], "lora": ["slicegpt"]},
        "reporting": {"networks": 2},
        **changes,
    }


def study_file(directory: Path, **changes: Any) -> Path:
    """The study's file, written beside its model."""
    path = directory / "study.yaml"
    path.write_text(yaml.safe_dump(study_values(directory, **changes)), encoding="utf-8")
    return path


def own_task(directory: Path, name: str = "pets", **section: Any) -> dict[str, Any]:
    """A task of one's own, whose file and items are written into the directory: its section of a study file."""
    rows = [{"q": f"Which of the {name} is number {row}?", "c": list("abc"), "a": row % 3} for row in range(40)]
    items, file = directory / f"{name}.jsonl", directory / f"{name}.yaml"
    items.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items)}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": "{{a}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    file.write_text(yaml.safe_dump(task), encoding="utf-8")
    return {"name": str(file), "search": {"items": 8}, "report": {"items": 12}, **section}
