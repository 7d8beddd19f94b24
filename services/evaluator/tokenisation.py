"""From text to token ids exactly as lm-eval's `hf` model does it: by its own code."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Continuation:
    """A continuation to be scored after a context; `inputs` are what the network reads, `targets` what its last states
    predict.

    `inputs` ends before the last target, and is cut on the left to the network's greatest length.
    """

    inputs: tuple[int, ...]
    targets: tuple[int, ...]


class _Tokenisation(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """lm-eval's `hf` model without the model: where it would compute, it hands back the token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        TemplateLM.__init__(self)  # HFLM's own loads a network
        self.tokenizer = tokenizer
        self.backend = "causal"
        self.add_bos_token = None
        self.custom_prefix_token_id = None
        self.enable_thinking = False

    def _loglikelihood_tokens(self, requests: Iterable[tuple[Any, list[int], list[int]]], **_: Any) -> list[Any]:
        return [(context, continuation) for _, context, continuation in requests]


def tokenize_requests(
    requests: Sequence[Instance], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Continuation]:
    """Token ids of lm-eval's log-likelihood requests, for a network that reads at most `max_length` tokens."""
    pairs = _Tokenisation(tokenizer).loglikelihood(list(requests), disable_tqdm=True)
    return [
        Continuation(tuple((context + continuation)[-(max_length + 1) :][:-1]), tuple(continuation))
        for context, continuation in pairs
    ]
