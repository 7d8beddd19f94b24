"""A step of decoding that is captured and replayed makes the tokens of one that is called anew each time.

The graphs of a GPU are not here: what is captured is called again instead, on the same memory.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from services.evaluator.engines.decoding import Capture, Captured, StepByStep, capturable
from services.evaluator.engines.torch_engine import TorchEngine
from shared.architecture import Architecture
from shared.messages import Workload
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from tests.support.checkpoints import WIDTH, random_sequences, write_checkpoint
from tests.support.passes import called_again

PROMPTS = {"one": random_sequences(9), "even": random_sequences(7, 7, 7), "ragged": random_sequences(3, 14, 1, 6)}
SUBNET = Architecture(layers=(0, 1, 3), mlp_widths=(WIDTH, 6, 12))
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["llama-grouped-tied", "mistral-window", "gemma3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory: Path = tmp_path_factory.mktemp(request.param)
    write_checkpoint(directory, request.param)
    return Checkpoint.open(directory)


def generated(checkpoint: Checkpoint, capture: Capture | None, prompts: str, tokens: int) -> list[list[int]]:
    with TorchEngine(CPU, capture).run(checkpoint, SUBNET, "float32") as running:
        return running.generate(PROMPTS[prompts], tokens)


@pytest.mark.parametrize("prompts", PROMPTS)
def test_a_captured_step_makes_the_same_tokens(checkpoint: Checkpoint, prompts: str) -> None:
    expected = generated(checkpoint, None, prompts, 12)
    assert generated(checkpoint, called_again, prompts, 12) == expected
    assert generated(checkpoint, called_again, prompts, 1) == [line[:1] for line in expected]


@torch.inference_mode()
def test_a_step_that_was_captured_once_serves_every_round(checkpoint: Checkpoint) -> None:
    network, captures = checkpoint.cut(SUBNET), []

    def counted(advance: Callable[[], None], begin: Callable[[], None]) -> Callable[[], None]:
        captures.append(advance)
        return called_again(advance, begin)

    captured, anew = Captured(network, PROMPTS["ragged"], 5, counted), StepByStep(network, PROMPTS["ragged"], 5)
    for _ in range(3):
        for decoding in (captured, anew):
            decoding.make_ready()
            decoding.prefill()
        for _ in range(5):
            captured.step()
            anew.step()
            assert torch.equal(captured.newest, anew.newest)
    assert len(captures) == 1


@torch.inference_mode()
def test_no_step_moves_what_the_next_one_reads(checkpoint: Checkpoint) -> None:
    decoding = Captured(checkpoint.cut(SUBNET), PROMPTS["even"], 4, called_again)
    decoding.make_ready()
    decoding.prefill()
    before = decoding.newest.data_ptr(), decoding._positions.data_ptr()
    for _ in range(4):
        decoding.step()
    assert (decoding.newest.data_ptr(), decoding._positions.data_ptr()) == before
    assert decoding._positions.tolist() == [11, 11, 11]


def test_a_captured_network_is_timed_like_any_other(checkpoint: Checkpoint) -> None:
    with TorchEngine(CPU, called_again).run(checkpoint, SUBNET, "bfloat16") as running:
        passes = running.time(Workload(batch=2, prompt_tokens=9, generated_tokens=2), repeats=3)
    assert len(passes.prefill) == len(passes.decode) == 3 and min(passes.prefill + passes.decode) > 0


def test_a_network_in_int8_is_not_captured(checkpoint: Checkpoint) -> None:
    plain, quantized = (checkpoint.cut(SUBNET.quantized(how)) for how in ("none", "int8"))
    assert isinstance(plain, Decoder) and capturable(plain) and not capturable(quantized)
    never: Capture = lambda advance, begin: pytest.fail("captured")  # noqa: E731
    with TorchEngine(CPU, never).run(checkpoint, SUBNET.quantized("int8"), "float32") as running:
        assert len(running.generate(PROMPTS["one"], 3)[0]) == 3
