"""vLLM runs sub-networks through our plugin, and says what our own engine says."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from services.evaluator.engines import Engine, make_engine
from services.evaluator.engines.torch_engine import TorchEngine
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import Workload
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.checkpoints import random_sequences, write_checkpoint

SUBNET = Architecture(layers=(0, 1, 3, 4), mlp_widths=(24, 8, 13, 16))
KERNEL_SIZES = {"hidden_size": 128, "head_dim": 32}
"""vLLM's attention on a CPU knows heads of 32 and more."""


@pytest.fixture
def engine() -> Engine:
    return make_engine("vllm")


def checkpoint_of(family: str, directory: Path) -> Checkpoint:
    write_checkpoint(directory, family, **KERNEL_SIZES)
    return Checkpoint.open(directory)


def generated(
    engine: Engine, checkpoint: Checkpoint, architecture: Architecture, prompts: list[list[int]], tokens: int
) -> list[list[int]]:
    with engine.run(checkpoint, architecture, "float32") as running:
        return running.generate(prompts, tokens)


@pytest.mark.parametrize(
    "family",
    [
        "llama-biases",
        "llama3-rope",
        "llama-yarn-rope",
        "mistral-window",
        "qwen2",
        "qwen2-window",
        "qwen3",
        "qwen3-window",
    ],
)
def test_tokens_are_those_of_the_torch_engine_whatever_the_family(family: str, engine: Engine, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(family, tmp_path)
    prompts = random_sequences(3, 40, 17)

    ours = generated(TorchEngine(torch.device("cpu")), checkpoint, SUBNET, prompts, 20)

    assert generated(engine, checkpoint, SUBNET, prompts, 20) == ours
    assert len({token for line in ours for token in line}) > 10  # a network that repeats one token tells nothing


def test_tokens_of_the_example_model_cut_to_24_layers_are_those_of_the_torch_engine(engine: Engine) -> None:
    checkpoint = Checkpoint.open(fetch_model(EXAMPLE_MODEL)[0])
    layers = tuple(layer for layer in range(30) if layer not in (3, 7, 11, 15, 19, 23))
    subnet = Architecture(layers=layers, mlp_widths=(1536, 768) * 12)
    prompts = random_sequences(5, 60, 33, vocabulary=checkpoint.network.vocab_size)

    ours = generated(TorchEngine(torch.device("cpu")), checkpoint, subnet, prompts, 32)

    assert generated(engine, checkpoint, subnet, prompts, 32) == ours


def test_a_workload_takes_positive_time_in_every_repeat(engine: Engine, tmp_path: Path) -> None:
    checkpoint = checkpoint_of("llama", tmp_path)
    with engine.run(checkpoint, SUBNET, "bfloat16") as running:
        passes = running.time(Workload(batch=3, prompt_tokens=20, generated_tokens=7), repeats=4)

    assert len(passes.prefill) == len(passes.decode) == 4
    assert min(passes.prefill) > 0 and min(passes.decode) > 0


def test_an_int8_network_is_refused_in_one_line(engine: Engine, tmp_path: Path) -> None:
    checkpoint = checkpoint_of("llama", tmp_path)
    with (
        pytest.raises(UserError, match=r"engine vllm: .*int8.*use engine torch$"),
        engine.run(checkpoint, SUBNET.quantized("int8"), "float32"),
    ):
        pass


def test_vllm_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    checkpoint = checkpoint_of("llama", tmp_path)
    asking = f"""
from pathlib import Path
from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint
from services.evaluator.engines import make_engine
with make_engine("vllm").run(
    Checkpoint.open(Path({str(checkpoint.directory)!r})), Architecture(layers=(0,), mlp_widths=(8,)), "float32"
) as running:
    running.generate([[5]] * 100, 2000)
"""
    evaluator = psutil.Popen([sys.executable, "-P", "-c", asking], stderr=subprocess.DEVNULL)
    waited_for(lambda: bool(evaluator.children()))
    (child,) = evaluator.children()
    waited_for(lambda: child.num_threads() > 5)  # vLLM is being loaded
    evaluator.kill()
    evaluator.wait()
    waited_for(lambda: not child.is_running())


def waited_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
