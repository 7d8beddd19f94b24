"""From text to token ids exactly as lm-eval's `hf` model does it: by its own code."""

from collections.abc import Iterable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerBase

from services.evaluator.batches import Continuation
from services.evaluator.tasks.lm_eval_internals import NetworklessHFLM
from shared.errors import UserError

Pair = tuple[list[int], list[int]]
"""Token ids of a context and of what is scored after it."""


class _Tokenisation(NetworklessHFLM):
    """Where lm-eval's `hf` model would compute, it returns the token ids."""

    def _loglikelihood_tokens(self, requests: Iterable[tuple[Any, list[int], list[int]]], **_: Any) -> list[Pair]:
        return [(context, continuation) for _, context, continuation in requests]

    def windows(self, text: str, max_length: int) -> list[Pair]:
        """The windows in which a whole text is scored, as HFLM.loglikelihood_rolling makes them: each token once."""
        found = get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=max_length,
            context_len=1,
        )
        return [make_disjoint_window(window) for window in found]


def tokenize_requests(
    requests: Sequence[Instance], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[tuple[Continuation, ...]]:
    """Token ids of lm-eval's requests, for a network with inputs of at most `max_length` tokens.

    A log-likelihood request is one continuation. A rolling one is as many as its text has windows (none if it is
    empty), of which the log-likelihoods are to be added up. Raises UserError where lm-eval fails: for a tokenizer that
    has neither BOS nor EOS to begin a text with, and for a context of no tokens.
    """
    model = _Tokenisation(tokenizer)
    if model.prefix_token_id is None:
        raise UserError("the tokenizer has no BOS and no EOS token; name one in tokenizer_config.json")
    plain = [request for request in requests if request.request_type != "loglikelihood_rolling"]
    pairs = iter(model.loglikelihood(plain, disable_tqdm=True))
    found = [
        model.windows(request.args[0], max_length) if request.request_type == "loglikelihood_rolling" else [next(pairs)]
        for request in requests
    ]
    return [
        tuple(_continuation(request, pair, max_length) for pair in own)
        for request, own in zip(requests, found, strict=True)
    ]


def _continuation(request: Instance, pair: Pair, max_length: int) -> Continuation:
    context, continuation = pair
    if not context:
        raise UserError(
            f"tasks.{request.task_name}: item {request.doc_id} has a prompt of spaces, which are no tokens; "
            "the tokenizer would have to begin with BOS"
        )
    return Continuation(tuple((context + continuation)[-(max_length + 1) :][:-1]), tuple(continuation))
