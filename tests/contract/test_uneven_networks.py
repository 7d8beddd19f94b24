"""Networks whose layers differ in heads, widths, hidden size and basis, or lack a block: all that computes with them
says what a plain reference says."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from services.evaluator.batches import Continuation
from services.evaluator.engines.decoding import Capture
from services.evaluator.engines.torch_engine import TorchEngine
from services.evaluator.evaluator import Evaluator
from services.evaluator.tasks.loading import load_items
from services.evaluator.tokenisation import tokenize_requests
from shared.architecture import dense
from shared.checkpoint_files import FileDigests, content_digest
from shared.environment import Environment
from shared.manifest import read_network
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, Measurement, TaskItems
from shared.network.shape import NetworkShape
from shared.network.sizes import cache_bytes, parameters, weight_bytes
from shared.supernet.blocked import blocked
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.prefix import Prefix
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.checkpoints import random_sequences
from tests.support.passes import called_again, hidden_together
from tests.support.plain_network import plain_logits
from tests.support.uneven import UNEVEN, write_uneven

TOLERANCE = 1e-4
SEQUENCES = random_sequences(3, 40, 17, 16, 1)


class Made(NamedTuple):
    directory: Path
    shape: NetworkShape

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint.open(self.directory)

    def reference(self, tokens: list[int], checkpoint: Checkpoint | None = None) -> Tensor:
        opened = checkpoint or self.checkpoint
        theta = opened.config.rope_parameters["rope_theta"]
        return plain_logits(self.shape, opened.weights, opened.cut().arithmetic, theta, tokens).float()


@pytest.fixture(scope="module", params=UNEVEN)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp(request.param)
    return Made(directory, write_uneven(directory, request.param))


def test_it_is_opened_as_what_was_written(made: Made) -> None:
    assert made.checkpoint.network == read_network(made.directory) == made.shape


@torch.inference_mode()
def test_packed_sequences_have_the_logits_of_a_plain_reference(made: Made) -> None:
    network = made.checkpoint.cut()
    packed = pack([Tree.plain(tokens) for tokens in SEQUENCES])
    logits = network.logits(network.hidden(packed))
    for start, tokens in zip(packed.starts, SEQUENCES, strict=True):
        expected = made.reference(tokens)
        assert expected.std() > 0.1, "the reference says nothing"
        torch.testing.assert_close(logits[start : start + len(tokens)], expected, atol=TOLERANCE, rtol=TOLERANCE)


@torch.inference_mode()
def test_every_weight_matters(made: Made) -> None:
    checkpoint, packed = made.checkpoint, pack([Tree.plain(tokens) for tokens in SEQUENCES])
    whole = checkpoint.cut()
    states = whole.logits(whole.hidden(packed))
    for name, tensor in checkpoint.weights.items():
        changed = checkpoint.cut(weights={**checkpoint.weights, name: tensor.roll(1, 0) * 1.1 + 0.05})
        assert (changed.logits(changed.hidden(packed)) - states).abs().max() > 1e-4, name


@torch.inference_mode()
def test_sequences_go_on_after_a_shared_prefix(made: Made) -> None:
    network, (beginning, *endings) = made.checkpoint.cut(), random_sequences(21, 5, 9)
    prefix = Prefix.of(beginning)
    row = pack([Tree(tokens, range(21, 21 + len(tokens)), (len(tokens),) * len(tokens)) for tokens in endings])
    _, states = hidden_together(network, [prefix, row.after(prefix)], lambda layer: layer)
    for start, tokens in zip(row.starts, endings, strict=True):
        logits = network.logits(states[start : start + len(tokens)])
        expected = made.reference(beginning + tokens)[len(beginning) :]
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("capture", [None, called_again], ids=["step-by-step", "captured"])
@torch.inference_mode()
def test_what_is_made_with_a_cache_is_what_the_whole_sequence_says(made: Made, capture: Capture | None) -> None:
    prompts = random_sequences(7, 7) + random_sequences(3, 14, 1, seed=1)
    checkpoint = made.checkpoint
    with TorchEngine(torch.device("cpu"), capture).run(checkpoint, dense(made.shape), "float32") as running:
        found = running.generate(prompts, 6)
    for prompt, tokens in zip(prompts, found, strict=True):
        expected = made.reference(prompt + tokens, checkpoint)[len(prompt) - 1 : -1].argmax(-1)
        assert tokens == expected.tolist()


@torch.inference_mode()
def test_layers_made_ready_for_many_tokens_compute_the_same(made: Made) -> None:
    weights = {name: tensor.bfloat16() for name, tensor in made.checkpoint.weights.items()}
    network = made.checkpoint.cut(weights=weights)
    row = pack([Tree.plain(tokens) for tokens in SEQUENCES])
    exact = network.map(lambda tensor: tensor.float()).hidden(row)
    (plain,), (ready,) = (hidden_together(network, [row], how) for how in (lambda layer: layer, blocked))
    error, reference = ((states.float() - exact).square().mean().sqrt() for states in (ready, plain))
    assert error < 1.3 * reference and reference < 0.05 * exact.std()


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_sizes_are_those_of_the_tensors(made: Made, quantization: str) -> None:
    network = made.checkpoint.cut(dense(made.shape).quantized(quantization))
    assert parameters(made.shape) == sum(tensor.numel() for tensor in made.checkpoint.weights.values())
    assert weight_bytes(made.shape, "float32", quantization) == network.bytes
    keys = sum(layer.attention.keys for layer in made.shape.layers if layer.attention)
    assert cache_bytes(made.shape, "bfloat16") == 2 * 2 * keys


def test_an_evaluator_measures_it_as_it_measures_any_checkpoint(made: Made) -> None:
    environment = Environment.read()
    evaluator, whole = Evaluator(environment), dense(read_network(made.directory))
    digest = content_digest(FileDigests(environment.cache).content(made.directory))
    request = EvaluationRequest(
        search="by-hand",
        checkpoint=CheckpointRef(location=str(made.directory), digest=digest),
        architecture=whole,
        spec=EvaluationSpec(dtype="float32", tasks=(TaskItems(task="plain_facts", stop=6),)).computing(whole),
    )
    outcome = evaluator.evaluate(request).outcome
    assert isinstance(outcome, Measurement), outcome
    assert (outcome.parameters, outcome.bytes) == (parameters(made.shape), weight_bytes(made.shape, "float32", "none"))
    tokenizer, expected = load_tokenizer(made.directory), []
    for document in load_items(request.spec.tasks[0], None).documents:
        windows = tokenize_requests(document.requests(), tokenizer, 2048)
        answers = [sum(likelihood(made, window) for window in each) for each in windows]
        right = answers.pop(document.doc["choices"]["label"].index(document.doc["answerKey"]))
        expected.append(right - max(answers))
    assert outcome.scores[0].margins == pytest.approx(expected, abs=1e-3)


def likelihood(made: Made, window: Continuation) -> float:
    """The reference's log-likelihood of what a window is to predict."""
    logits = made.reference(list(window.inputs))[-len(window.targets) :]
    return float(logits.log_softmax(-1).gather(1, torch.tensor([window.targets]).T).sum())
