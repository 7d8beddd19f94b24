"""Instructions as tokens: how a row becomes an example, how examples are packed into steps."""

import copy
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from shared.errors import UserError
from shared.settings import TrainingSettings

PROMPT = (
    "Below is an instruction that describes a task{paired}. "
    "Write a response that appropriately completes the request.\n\n"
)
PAIRED = ", paired with an input that provides further context"
"""Alpaca's own prompt (Taori et al., 2023)."""


@dataclass(frozen=True)
class Example:
    """A tokenised row; the loss is taken on the tokens from `response` on."""

    tokens: tuple[int, ...]
    response: int


def tokenize(rows: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[Example]:
    """Turn rows into examples of at most `limit` tokens; rows whose prompt alone is longer are left out.

    An example's tokens are those of prompt and response as one text, as a network reads them, and one EOS: so a
    response that ends differs from one that was cut off. Other special tokens around the text are the tokenizer's own:
    BOS comes first where the tokenizer puts it before every text, which is what scoring does too.

    A token with characters of both belongs to the response: otherwise how a response begins would not be learnt.

    Raises UserError for a tokenizer without EOS: responses would be learnt that never end, and to name the token is a
    line in a file. And for one that doesn't say where its tokens lie in the text.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer doesn't say where tokens lie in a text, which training needs; "
            "convert it to a tokenizer.json"
        )
    end: int | None = tokenizer.eos_token_id
    if end is None:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer has no EOS token, with which responses end; "
            "name one in tokenizer_config.json (eos_token)"
        )
    prompts = [_prompt(row) for row in rows]
    texts = [prompt + row["output"] for prompt, row in zip(prompts, rows, strict=True)]
    before, after = _surroundings(tokenizer, end)
    examples = []
    for prompt, encoding in zip(prompts, _plain(tokenizer).encode_batch(texts, add_special_tokens=False), strict=True):
        tokens: list[int] = encoding.ids
        while tokens and tokens[-1] == end:  # a response that ends with EOS, in letters
            tokens.pop()
        ends = (stop for _, stop in encoding.offsets[: len(tokens)])
        response = next((index for index, stop in enumerate(ends) if stop > len(prompt)), len(tokens))
        if len(before) + response < limit:
            whole = (*before, *tokens, *after, end)
            examples.append(Example(whole[:limit], len(before) + response))
    return examples


def _prompt(row: Mapping[str, str]) -> str:
    prompt = PROMPT.format(paired=PAIRED if row["input"] else "") + f"### Instruction:\n{row['instruction']}\n\n"
    if row["input"]:
        prompt += f"### Input:\n{row['input']}\n\n"
    return prompt + "### Response:\n"


def _surroundings(tokenizer: PreTrainedTokenizerFast, end: int) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after every text, the latter without EOS."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    special = list(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True))
    before = [token for token, _ in itertools.takewhile(lambda pair: pair[1], special)]
    after = [token for token, added in special[len(before) :] if added and token != end]
    return before, after


def _plain(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The tokenizer without its last stage, which adds special tokens and, in byte-level ones, takes spaces out of the
    offsets that it reports."""
    plain = copy.deepcopy(tokenizer.backend_tokenizer)
    plain.encode_special_tokens = tokenizer.backend_tokenizer.encode_special_tokens  # lost by copying
    plain.post_processor = None
    plain.no_truncation()
    plain.no_padding()
    return plain


def batches(examples: Sequence[Example], tokens_per_step: int, seed: int) -> Iterator[list[Example]]:
    """Endless batches of whole examples with at most `tokens_per_step` tokens each, every epoch in a new order."""
    batch: list[Example] = []
    filled = 0
    for epoch in itertools.count():
        order = list(range(len(examples)))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        for example in (examples[index] for index in order):
            if filled + len(example.tokens) > tokens_per_step:
                yield batch
                batch, filled = [], 0
            batch.append(example)
            filled += len(example.tokens)


def calibration_batches(examples: Sequence[Example], settings: TrainingSettings) -> Iterator[list[Example]]:
    """The first of these batches, with as many tokens as `training.calibration_tokens` says, or a few more."""
    tokens = 0
    for batch in batches(examples, settings.tokens_per_step, settings.seed):
        yield batch
        tokens += sum(len(example.tokens) for example in batch)
        if tokens >= settings.calibration_tokens:
            return
