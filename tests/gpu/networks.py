"""Networks of a size, with random weights that are made where they are computed with; and items to score."""

import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from services.evaluator.batches import Continuation, PrefixGroup, prefix_group
from shared.network.config import network_of
from shared.network.tensors import tensors
from shared.supernet.checkpoint import Checkpoint
from tests.gpu.check import Machine

SIZES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4},
    "1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 16},
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}
"""LLaMA2-7B's, and those of a network of 1.1 billion parameters."""


def config_of(machine: Machine, size: str) -> LlamaConfig:
    """A Llama of a size; tiny on a machine that is."""
    sizes = SIZES["tiny" if machine.tiny else size]
    vocabulary = 512 if machine.tiny else 32000
    return LlamaConfig(**sizes, num_key_value_heads=sizes["num_attention_heads"], vocab_size=vocabulary)


def random_checkpoint(machine: Machine, size: str, dtype: torch.dtype = torch.bfloat16) -> Checkpoint:
    """A network of a size with random weights on the device."""
    config = config_of(machine, size)
    network = network_of(config.to_dict(), "config")
    generator = torch.Generator(machine.device).manual_seed(0)
    weights = {}
    for spec in tensors(network):
        noise = torch.randn(spec.size, dtype=dtype, device=machine.device, generator=generator)
        # So that attention and MLP change the state by about as much as there is of it.
        weights[spec.name] = noise.mul_(0.1).add_(1) if spec.columns is None else noise.mul_(spec.columns**-0.5)
    return Checkpoint(Path("random"), config, network, weights)


def as_transformers(checkpoint: Checkpoint) -> LlamaForCausalLM:
    """The same network as transformers' own, of the same tensors."""
    with torch.device("meta"):
        model = LlamaForCausalLM(checkpoint.config)
    model.load_state_dict(dict(checkpoint.weights), assign=True)
    # What isn't in a checkpoint is still on `meta`.
    rotary = type(model.model.rotary_emb)(config=checkpoint.config)
    model.model.rotary_emb = rotary.to(checkpoint.weights["model.norm.weight"].device)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Items:
    """Questions, each with four choices, as tokens: `contexts[i]` and `choices[i][j]`."""

    contexts: list[list[int]]
    choices: list[list[list[int]]]

    @classmethod
    def random(cls, count: int, vocabulary: int, context: int, seed: int = 0) -> "Items":
        """Contexts of about a length, after which come choices of a few tokens."""
        rng = random.Random(seed)

        def tokens(few: int, many: int) -> list[int]:
            return [rng.randrange(vocabulary) for _ in range(rng.randint(few, many))]

        contexts = [tokens(context * 3 // 4, context * 5 // 4) for _ in range(count)]
        return cls(contexts, [[tokens(2, 12) for _ in range(4)] for _ in range(count)])

    @property
    def sequences(self) -> list[tuple[list[int], int]]:
        """Each choice after its context, and how many of its last tokens are scored."""
        pairs = zip(self.contexts, self.choices, strict=True)
        return [(context + choice, len(choice)) for context, choices in pairs for choice in choices]


def task_of(items: Items, device: torch.device, tokens: int, prefix: list[int] | None = None) -> Any:
    """What `score` takes, for items that are no text: only the log-likelihoods come back, as a metric of each item."""
    before = prefix or []
    windows = [Continuation(tuple(before + whole[:-1]), tuple(whole[-scored:])) for whole, scored in items.sequences]
    numbered = list(enumerate(windows))
    group = prefix_group([numbered[start : start + 4] for start in range(0, len(numbered), 4)], device, tokens)
    return _Task([group], len(items.contexts), tokens, device)


class _Task(SimpleNamespace):
    """As `PreparedTask`, without lm-eval, which a machine with a GPU may not have."""

    def __init__(self, groups: list[PrefixGroup], count: int, batch_tokens: int, device: torch.device) -> None:
        super().__init__(name="synthetic", digest="", batch_tokens=batch_tokens, device=device)
        self.prefix_groups, self.requests, self.golds, self.choices = (
            groups,
            (4,) * count,
            ((0,),) * count,
            (("", "", "", ""),) * count,
        )
        self.documents = [SimpleNamespace(index=index, metrics=_likelihoods) for index in range(count)]
        self.loaded = SimpleNamespace(values=lambda _: {}, clusters=(), even=())
        self.tokens = sum(len(one.prefix) + sum(len(each.tree) for each in one.members) for one in groups)

    def halved(self) -> "_Task":
        from services.evaluator.batches import batches_of

        tokens = self.batch_tokens // 2
        groups = [
            PrefixGroup(one.prefix, one.prefix_row, one.members, tuple(batches_of(one.members, tokens, self.device)))
            for one in self.prefix_groups
        ]
        return _Task(groups, len(self.documents), tokens, self.device)


def _likelihoods(answers: list[tuple[float, bool]]) -> dict[str, float]:
    return {f"choice {number}": likelihood for number, (likelihood, _) in enumerate(answers)}
