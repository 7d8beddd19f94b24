"""What runs on a GPU stays there: whole passes on a device that isn't the CPU, in which nothing crosses unnamed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from services.evaluator.engines.torch_engine import TorchEngine
from services.evaluator.placement import to_device
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import LoadedTask, load_items
from services.trainer import lean_adamw, make_supernet
from services.trainer.ordering import measure_ordering
from shared.architecture import Architecture, Quantization, dense
from shared.memory_needs import RECIPES
from shared.messages import TaskItems, Workload
from shared.settings import MemoryRecipe
from shared.supernet import packing
from shared.supernet.checkpoint import Checkpoint
from tests.support.checkpoints import WIDTH, random_sequences, tiny_tokenizer, write_checkpoint
from tests.support.placement import DEVICE, MisplacedError, on_the_device
from tests.support.tasks import register
from tests.support.tiny_training import tiny_plan, train_in

CUT = {"shared/supernet/decoder.py:Rotary.to": "a network's rotary frequencies, once when it is cut"}
FIRST = {"services/evaluator/batches.py:ScoringBatch._part": "where answers are read, once for all networks"}
SCORING = {"services/evaluator/scoring.py:_score_wave": "a wave's answers leave the device, all of them at once"}
INT8 = {"shared/supernet/int8.py:outlier_columns": "how many columns have outliers decides how they are multiplied"}
ENGINE = {
    "services/evaluator/engines/cache.py:PaddedPrompts.begin": "the prompts, before anything is computed",
    "services/evaluator/engines/cache.py:KVCache.of_prompts": "the prompts' lengths, before anything is computed",
    "services/evaluator/engines/torch_engine.py:TorchNetwork.generate": "what was generated, once at the end",
}
ORDERING = {
    "services/trainer/ordering.py:measure_ordering": "the base goes to the device, and what is measured comes back",
    "shared/supernet/order.py:measure_importance": "the layers' influence, once at the end",
    "shared/supernet/packing.py:pack": "the data of a step, in one copy",
}
TRAINING = {
    **CUT,
    **ORDERING,
    "services/trainer/make_supernet.py:_trained_alone": "the weights go to the device once",
    "services/trainer/make_supernet.py:_on_first": "the finished weights leave the device",
    "services/trainer/fine_tuning.py:gradients_of": "the loss of each of a step's networks",
    "services/trainer/fine_tuning.py:fine_tune": "a step's loss and the norm of its gradient are looked at",
}
BY_DIVERGENCE = {
    "services/trainer/ordering.py:_rows": "which tokens of the calibration text count",
    "shared/supernet/divergence.py:WholeNetwork._measured": "the divergence of each choice of layers",
}
WHOLE_LOGITS = {"services/trainer/weight_updates.py:_whole_loss": "where a step's loss is taken"}
CHUNKED_LOGITS = {"services/trainer/weight_updates.py:_lean_loss": "where a step's loss is taken"}
SUBNET = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH, 5, 16))


def subjects(monkeypatch: pytest.MonkeyPatch) -> LoadedTask:
    """Questions of two subjects: after long descriptions that they share, with choices that begin alike."""
    documents = []
    for subject in ("birds", "stones"):
        rows = [
            {"question": f"Which is like {word}?", "choices": [f" a red {word}", " a red", " milk"], "gold": 1}
            for word in ("water", "the moon", "a river", "fire")
        ]
        description = f"The following are questions about {subject}. " * 8
        kind = {"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}"}
        register(monkeypatch, subject, rows, **kind, doc_to_target="{{gold}}", description=description)
        documents += load_items(TaskItems(task=subject, stop=len(rows)), None).documents
    return LoadedTask(tuple(documents), "here")


def prepared(monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint) -> PreparedTask:
    task = prepare_task("subjects", subjects(monkeypatch), tiny_tokenizer(), checkpoint.config, DEVICE, 30)
    assert all(group.prefix and len(group.batches) > 1 for group in task.prefix_groups)
    assert any(member.tree.branches for group in task.prefix_groups for member in group.members)
    return task


@pytest.mark.parametrize(
    ("family", "quantization"), [("llama-grouped-tied", "none"), ("gemma3", "none"), ("mistral-window", "int8")]
)
def test_a_network_s_scores_are_computed_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, quantization: Quantization
) -> None:
    write_checkpoint(tmp_path, family)
    checkpoint = to_device(Checkpoint.open(tmp_path), DEVICE, torch.bfloat16)
    task, masks, made = prepared(monkeypatch, checkpoint), [], packing.block_mask
    monkeypatch.setattr(packing, "block_mask", lambda *asked: masks.append(asked) or made(*asked))
    needed = SCORING | (INT8 if quantization == "int8" else {})
    for architecture, once in ((SUBNET, FIRST), (dense(checkpoint.network), {})):
        with on_the_device(CUT):
            network = checkpoint.cut(architecture.quantized(quantization))
        with on_the_device(needed | once) as met:
            scores = score(network, task)
        assert len(scores.margins) == 8 and met == (needed | once).keys()
        assert bool(masks) == bool(once), "masks of blocks are made once for all networks"
        masks.clear()


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize(("family", "prompts"), [("gemma3", (7, 7, 7)), ("qwen3-window", (3, 14, 1))])
def test_an_engine_generates_where_the_weights_are(
    tmp_path: Path, family: str, prompts: tuple[int, ...], captured: bool
) -> None:
    write_checkpoint(tmp_path, family)
    checkpoint = to_device(Checkpoint.open(tmp_path), DEVICE, torch.float32)
    engine = TorchEngine(DEVICE, (lambda advance, begin: advance) if captured else None)
    with on_the_device(CUT | ENGINE) as met, engine.run(checkpoint, SUBNET, "float32") as running:
        assert [len(line) for line in running.generate(random_sequences(*prompts), 3)] == [3] * len(prompts)
        running.time(Workload(batch=2, prompt_tokens=9, generated_tokens=2), repeats=1)
    assert met == (CUT | ENGINE).keys()


@pytest.mark.parametrize("memory", RECIPES)
def test_a_super_network_is_ordered_and_trained_where_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: MemoryRecipe
) -> None:
    plan = tiny_plan(tmp_path, steps=2, memory=memory)
    monkeypatch.setattr(make_supernet, "compute_device", lambda: DEVICE)
    adamw = torch.optim.AdamW  # its fused step has no kernel for `meta`
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args, **kwargs: adamw(*args, **{**kwargs, "fused": False}))
    generator = torch.Generator  # none of `meta` can be made
    monkeypatch.setattr(torch, "Generator", lambda *_: generator())
    monkeypatch.setitem(lean_adamw.CHUNK, DEVICE.type, lean_adamw.CHUNK["cuda"])
    needed = TRAINING | (WHOLE_LOGITS if memory == "full" else CHUNKED_LOGITS)
    with on_the_device(needed) as met:
        train_in(tmp_path / "run", plan)
    assert met == needed.keys()


def test_divergences_are_computed_where_the_weights_are(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, steps=0, importance_on="responses", space={"depth_rule": "divergence"})
    with on_the_device(CUT | ORDERING | BY_DIVERGENCE) as met:
        measure_ordering(plan.base, plan.data.examples, plan.settings, torch.float32, DEVICE, lambda layers, of: None)
    assert met == (CUT | ORDERING | BY_DIVERGENCE).keys()


MISPLACED: dict[str, Callable[[Tensor], Any]] = {
    "a copy from meta to cpu": lambda there: there.cpu(),
    "a copy from cpu to meta": lambda there: torch.ones(3).to(there.device),
    "a copy from cpu to meta, in place": lambda there: there.copy_(torch.ones(3)),
    "a tensor made there of the host's numbers": lambda there: torch.tensor([1, 2], device=there.device),
    "a number that the host waits for": lambda there: there.sum().item(),
    "a number that the host waits for, to decide": lambda there: bool((there > 0).any()),
    "a copy from meta to cpu, as a list": lambda there: there.tolist(),
    "places that the host waits to know the number of": lambda there: (there > 0).nonzero(),
    "places that the host waits to know the number of, as an index": lambda there: there[there > 0],
    "aten.index.Tensor of tensors on both devices": lambda there: there[torch.tensor([0])],
    "aten.mul.Tensor of tensors on both devices": lambda there: there * torch.ones(3),
    "aten.mv.default of tensors on both devices": lambda there: torch.ones(2, 3) @ there,
}


@pytest.mark.parametrize("what", MISPLACED)
@pytest.mark.parametrize("inference", [True, False])
def test_what_a_gpu_would_refuse_or_wait_for_is_found_and_named(what: str, inference: bool) -> None:
    there = torch.empty(3, device=DEVICE)
    with (
        torch.inference_mode(inference),
        pytest.raises(
            MisplacedError, match=f"^{what.split(',', maxsplit=1)[0]} at tests/unit/test_placement.py:<lambda>$"
        ),
        on_the_device({}),
    ):
        MISPLACED[what](there)


def test_what_is_named_may_cross_and_all_else_goes_on() -> None:
    allowed = {"tests/unit/test_placement.py:test_what_is_named_may_cross_and_all_else_goes_on": "a test"}
    with on_the_device(allowed) as met:
        there = torch.tensor([1.0, 2.0], device=DEVICE)
        assert (there * 2 + torch.tensor(1.0)).sum().item() == 1  # the numbers are made up
        assert there.tolist() == [0, 0] and met == allowed.keys()
