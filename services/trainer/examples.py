"""Training data as tokens: how a row becomes examples, how examples are packed into steps."""

import copy
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from services.trainer.passages import Passage, Passages, Span
from services.trainer.row_formats import UnusableError
from shared.errors import UserError
from shared.settings import TrainingSettings

TOO_LONG = "prompts that fill training.tokens_per_step"


@dataclass(frozen=True)
class Example:
    """A tokenised row, or a part of one; the loss is taken on the tokens from `response` on, but for those in `prompts`
    (where each begins, and where what follows it does): what is said between several responses."""

    tokens: tuple[int, ...]
    response: int
    prompts: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Tokenized:
    """What rows became; and how many of them became nothing, by the reason."""

    examples: list[Example]
    left_out: Counter[str]


def tokenize(rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[Example]:
    """The examples that rows become; see `tokenized`."""
    return tokenized(rows, tokenizer, limit).examples


def tokenized(rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, limit: int) -> Tokenized:
    """Turn rows (see `row_formats`) into examples of at most `limit` tokens; rows whose prompt alone is longer are left
    out.

    An example's tokens are those of prompt and response as one text, as a network reads them, and one EOS: so a
    response that ends differs from one that was cut off. Other special tokens around the text are the tokenizer's own:
    BOS comes first where the tokenizer puts it before every text, which is what scoring does too. A conversation has
    those that the model's chat template writes, and no others. A plain text is learnt from its second token on; one
    that is longer goes on in further examples.

    A token with characters of both prompt and response belongs to the response: otherwise how a response begins would
    not be learnt.

    Raises UserError for a tokenizer without EOS: responses would be learnt that never end, and to name the token is a
    line in a file. And for one that doesn't say where its tokens lie in the text, and for chats without a template.
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
    left_out: Counter[str] = Counter()
    found: list[tuple[int, Passage]] = []
    making = Passages(tokenizer)
    for number, row in enumerate(rows):
        try:
            found += [(number, passage) for passage in making.of(row)]
        except UnusableError as unusable:
            left_out[str(unusable)] += 1
    before, after = _surroundings(tokenizer, end)
    examples: dict[int, list[Example]] = {number: [] for number, _ in found}
    encodings = _plain(tokenizer).encode_batch([passage.text for _, passage in found], add_special_tokens=False)
    for (number, passage), encoding in zip(found, encodings, strict=True):
        if passage.complete:
            examples[number] += _spelt_out(passage, encoding, limit)
        else:
            examples[number] += _surrounded(passage, encoding, before, after, end, limit)
    if too_long := sum(not each for each in examples.values()):
        left_out[TOO_LONG] += too_long
    return Tokenized([example for each in examples.values() for example in each], left_out)


def _surrounded(
    passage: Passage, encoding: Encoding, before: list[int], after: list[int], end: int, limit: int
) -> list[Example]:
    """Of a passage that the tokenizer's special tokens are put around."""
    tokens: list[int] = encoding.ids
    while tokens and tokens[-1] == end:  # a response that ends with EOS, in letters
        tokens.pop()
    whole = (*before, *tokens, *after, end)
    if passage.divisible:
        parts = [whole[start : start + limit] for start in range(0, len(whole), limit)]
        return [Example(part, 0) for part in parts if len(part) > 1]  # of a single token nothing is predicted
    begin = passage.learnt[0][0]
    ends = (stop for _, stop in encoding.offsets[: len(tokens)])
    response = next((index for index, stop in enumerate(ends) if stop > begin), len(tokens))
    return [Example(whole[:limit], len(before) + response)] if len(before) + response < limit else []


def _spelt_out(passage: Passage, encoding: Encoding, limit: int) -> list[Example]:
    """Of a passage that holds its special tokens."""
    learnt = []
    for begin, end in passage.learnt:
        places = [index for index, (start, stop) in enumerate(encoding.offsets[:limit]) if stop > begin and start < end]
        if places:
            learnt.append((places[0], places[-1] + 1))
    if not learnt:
        return []
    (first, last), tokens = (learnt[0][0], learnt[-1][1]), encoding.ids[:limit]
    between = [(stop, start) for (_, stop), (start, _) in itertools.pairwise(learnt) if stop < start]
    return [Example(tuple(tokens[:last]), first, tuple(between))]


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


def first_tokens(batches: Iterable[list[Example]], most: int) -> Iterator[list[Example]]:
    """Batches with so many tokens, or a few more, as far as there are any: the last one ends with the example that
    reaches them."""
    tokens = 0
    for batch in batches:
        begun = list(itertools.accumulate((len(example.tokens) for example in batch), initial=tokens))
        some = [example for example, before in zip(batch, begun[:-1], strict=True) if before < most]
        yield some
        if len(some) < len(batch) or begun[-1] >= most:
            return
        tokens = begun[-1]
