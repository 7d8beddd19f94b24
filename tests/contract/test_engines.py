"""Every engine says, token by token, what transformers says."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from services.evaluator.engines import Engine, make_engine
from shared.architecture import Architecture, dense
from shared.messages import Workload
from shared.supernet.checkpoint import Checkpoint
from tests.support.checkpoints import FAMILIES, LAYERS, WIDTH, copied_subnet, random_sequences, write_checkpoint

TOKENS = 12
PROMPTS = {
    "one": random_sequences(9),
    "equal-lengths": random_sequences(7, 7, 7),
    "different-lengths": random_sequences(3, 14, 1, 6),
}
SUBNETS = {
    "whole": Architecture(layers=tuple(range(LAYERS)), mlp_widths=(WIDTH,) * LAYERS),
    "subnet": Architecture(layers=(0, 3, 4), mlp_widths=(5, WIDTH, 1)),
}

Made = tuple[Path, PreTrainedModel]


@pytest.fixture
def engine() -> Engine:
    return make_engine("torch", torch.device("cpu"))


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp(request.param)
    return directory, write_checkpoint(directory, request.param)


def transformers_tokens(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """What transformers generates greedily, each prompt by itself."""
    made = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        eos_token_id=None,
    )
    tokens: list[int] = made[0, len(prompt) :].tolist()
    return tokens


@pytest.mark.parametrize("subnet", SUBNETS)
@pytest.mark.parametrize("prompts", PROMPTS)
def test_the_likeliest_tokens_are_those_of_transformers(engine: Engine, made: Made, prompts: str, subnet: str) -> None:
    directory, model = made
    reference = copied_subnet(model, SUBNETS[subnet])
    expected = [transformers_tokens(reference, prompt) for prompt in PROMPTS[prompts]]
    with engine.run(Checkpoint.open(directory), SUBNETS[subnet], "float32") as running:
        assert running.generate(PROMPTS[prompts], TOKENS) == expected


def test_a_single_token_can_be_asked_for(engine: Engine, made: Made) -> None:
    with engine.run(Checkpoint.open(made[0]), SUBNETS["whole"], "float32") as running:
        longer = running.generate(PROMPTS["different-lengths"], 3)
        assert running.generate(PROMPTS["different-lengths"], 1) == [line[:1] for line in longer]


def test_every_repeat_of_a_workload_is_timed(engine: Engine, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    with engine.run(checkpoint, dense(checkpoint.network), "bfloat16") as running:
        passes = running.time(Workload(batch=2, prompt_tokens=9, generated_tokens=2), repeats=3)
    assert len(passes.prefill) == len(passes.decode) == 3
    assert min(passes.prefill + passes.decode) > 0
