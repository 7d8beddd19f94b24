"""Networks that are asked for together: the same answers as one by one, each its own, and within the memory meant for
it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from services.evaluator import evaluator as module
from services.evaluator import scoring
from services.evaluator.batch_size import batch_tokens
from services.evaluator.evaluator import Evaluator
from services.evaluator.progress_callback import ProgressCallback
from services.evaluator.status import CrashGuard
from services.evaluator.together import MOST_HELD, in_parts
from shared.architecture import Architecture, dense
from shared.environment import Environment
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationResult, EvaluationSpec, Failure, TaskItems
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.layer_tree import LayerTree
from tests.support.checkpoints import LAYERS, WIDTH, write_checkpoint
from tests.support.content import digest_of

NEIGHBOURS = [
    Architecture(layers=(0, 2, 3), mlp_widths=widths) for widths in ((WIDTH, 6, 12), (WIDTH, 6, 6), (WIDTH, 12, 6))
]
IMPOSSIBLE = Architecture(layers=(0, 2, 9), mlp_widths=(WIDTH, 6, 12))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of which no network is finite that has all neurons of layer 4."""
    directory = tmp_path_factory.mktemp("model")
    model = write_checkpoint(directory, "llama-grouped-tied")
    with torch.no_grad():
        model.model.layers[4].mlp.up_proj.weight[-1].fill_(float("nan"))
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    return Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1))


def asked(directory: Path, networks: Sequence[Architecture]) -> list[EvaluationRequest]:
    spec = EvaluationSpec(tasks=(TaskItems(task="plain_facts", split="test", stop=8),), dtype="bfloat16")
    return [
        EvaluationRequest(
            search="test",
            checkpoint=CheckpointRef(location=str(directory), digest=digest_of(directory)),
            architecture=network,
            spec=spec.computing(network),
        )
        for network in networks
    ]


def said(results: Sequence[EvaluationResult]) -> list[Any]:
    """What each answers, but for the time that it took."""
    return [
        (result.identity, result.outcome)
        if isinstance(result.outcome, Failure)
        else (result.identity, result.outcome.model_copy(update={"seconds": {}}))
        for result in results
    ]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many networks are scored together, each time."""
    noted: list[int] = []
    real = scoring.score_together

    def note(networks: Sequence[Decoder], *others: Any) -> Any:
        noted.append(len(networks))
        return real(networks, *others)

    monkeypatch.setattr(module, "score_together", note)
    return noted


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_networks_that_are_asked_for_together_are_measured_as_one_by_one(
    directory: Path, evaluator: Evaluator, groups: list[int], quantization: Any
) -> None:
    requests = asked(directory, [network.quantized(quantization) for network in NEIGHBOURS])
    steps: list[None] = []
    together = evaluator.evaluate_together(requests, lambda: steps.append(None))
    assert groups == [3] and len(steps) >= 3
    assert said(together) == said([evaluator.evaluate(request) for request in requests])
    assert not any(isinstance(result.outcome, Failure) for result in together)
    assert len({str(outcome) for _, outcome in said(together)}) == 3


def test_a_network_that_cant_be_measured_takes_no_other_down(
    directory: Path, evaluator: Evaluator, groups: list[int]
) -> None:
    infinite = Architecture(layers=(0, 2, 4), mlp_widths=(WIDTH, 6, WIDTH))
    requests = asked(directory, [NEIGHBOURS[0], infinite, NEIGHBOURS[1]])
    one, other, last = evaluator.evaluate_together(requests)
    assert groups == [3]  # known of each when all are scored
    assert isinstance(other.outcome, Failure) and other.outcome.reason == "the network's scores are not finite"
    assert said([one, last]) == said([evaluator.evaluate(requests[0]), evaluator.evaluate(requests[2])])
    groups.clear()
    one, other = evaluator.evaluate_together(asked(directory, [NEIGHBOURS[0], IMPOSSIBLE]))
    assert groups == [1] and not isinstance(one.outcome, Failure)
    assert isinstance(other.outcome, Failure) and other.outcome.kind == "infeasible"


def test_where_memory_is_too_small_for_all_each_is_measured_alone(
    directory: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = scoring._score, list[int]()

    def limited(networks: Sequence[Decoder], *others: Any) -> Any:
        tried.append(len(networks))
        if len(networks) > 1:
            raise MemoryError
        return real(networks, *others)

    monkeypatch.setattr(scoring, "_score", limited)
    requests = asked(directory, NEIGHBOURS)
    together = evaluator.evaluate_together(requests)
    assert tried == [3, 1, 1, 1]
    assert said(together) == said([evaluator.evaluate(request) for request in requests])


def test_a_bug_at_one_network_is_a_crash_of_that_one(
    directory: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scoring._score

    def broken(networks: Sequence[Decoder], *others: Any) -> Any:
        if any(len(network.layers) == 2 for network in networks):
            raise IndexError("a bug")
        return real(networks, *others)

    monkeypatch.setattr(scoring, "_score", broken)
    poison = Architecture(layers=(0, 2), mlp_widths=(WIDTH, 6))
    requests = asked(directory, [NEIGHBOURS[0], poison, NEIGHBOURS[1]])

    class Noted:
        """As a service has it."""

        def evaluate_together(
            self, some: Sequence[EvaluationRequest], progressed: ProgressCallback
        ) -> list[EvaluationResult]:
            return evaluator.evaluate_together(some, progressed)

    outcomes = [result.outcome for result in CrashGuard(Noted()).evaluate_together(requests, lambda: None)]
    assert outcomes[1] == Failure(kind="crashed", reason="IndexError: a bug")
    assert not any(isinstance(outcome, Failure) for outcome in (outcomes[0], outcomes[2]))


def test_networks_are_scored_in_parts_that_the_memory_is_meant_for(directory: Path) -> None:
    checkpoint, whole = Checkpoint.open(directory), tuple(range(LAYERS))
    networks = [
        Architecture(layers=whole, mlp_widths=(*widths, 6))
        for first in (WIDTH, 12)
        for second in (WIDTH, 12)
        for third in (WIDTH, 12)
        for widths in ((first, second, third, WIDTH), (first, second, third, 12))
    ]
    parts = list(in_parts(checkpoint, networks))
    assert [network for part in parts for network in part] == networks and len(parts) > 1
    assert all(LayerTree.of(checkpoint.cut_together(part)).held <= MOST_HELD for part in parts)
    assert [len(part) for part in in_parts(checkpoint, networks[:6])] == [6]
    quantized = [
        Architecture(layers=(0, 1, 2), mlp_widths=(WIDTH, WIDTH, width), quantization="int8") for width in range(20, 24)
    ]
    most = sum(layer.nbytes for layer in weights(checkpoint, [dense(checkpoint.network).quantized("int8")]))
    parts = list(in_parts(checkpoint, quantized))
    assert [network for part in parts for network in part] == quantized and 1 < len(parts) < 4
    for part in parts:
        assert len(part) == 1 or sum(layer.nbytes for layer in weights(checkpoint, part)) <= most


def weights(checkpoint: Checkpoint, part: Sequence[Architecture]) -> list[torch.Tensor]:
    """The quantised weights of some networks, each once."""
    layers = {id(layer): layer for network in checkpoint.cut_together(part) for layer in network.layers}
    return [projection.weight for layer in layers.values() for projection in layer.projections]


def test_batches_are_the_same_for_a_network_alone_and_for_several(directory: Path, evaluator: Evaluator) -> None:
    requests = asked(directory, NEIGHBOURS)
    evaluator.evaluate(requests[0])
    alone = evaluator.prepared(requests[0].checkpoint, requests[0].spec.tasks[0])
    evaluator.evaluate_together(requests)
    assert evaluator.prepared(requests[0].checkpoint, requests[0].spec.tasks[0]) is alone
    assert alone.batch_tokens == batch_tokens(Checkpoint.open(directory).network, "bfloat16", torch.device("cpu"))
