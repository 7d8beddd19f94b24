"""Instruction data: where it comes from, how a row becomes tokens, how rows are packed into steps."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from shared import facts
from shared.digest import digest_json
from shared.environment import Environment
from shared.errors import UserError
from shared.rows import find_rows, read_rows

ALPACA_HUB = "tatsu-lab/alpaca"
ALPACA_FIELDS = ("instruction", "input", "output")

PROMPT = (
    "Below is an instruction that describes a task{paired}. "
    "Write a response that appropriately completes the request.\n\n"
)
PAIRED = ", paired with an input that provides further context"
"""Alpaca's own prompt (Taori et al., 2023)."""


@dataclass(frozen=True)
class Instructions:
    """Rows in Alpaca's schema, where they came from, and the digest of their content."""

    rows: tuple[dict[str, Any], ...]
    origin: str

    @property
    def digest(self) -> str:
        """Identity of the data."""
        return digest_json(self.rows)


@dataclass(frozen=True)
class Example:
    """A tokenised row; the loss is taken on the tokens from `response` on."""

    tokens: tuple[int, ...]
    response: int


def load_instructions(name: str, environment: Environment) -> Instructions:
    """Instruction data by the name a search file gives it: `alpaca`, `plain_facts` or a file.

    Raises UserError where it is not to be had.
    """
    if name == "plain_facts":
        return _checked(list(facts.instructions()), "the built-in instructions (plain facts)")
    if name == "alpaca":
        return _alpaca(environment)
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"training.data: {name!r} is neither 'alpaca', 'plain_facts' nor a JSON Lines file; mend the search file"
        )
    return _checked(read_rows(path, ALPACA_FIELDS), str(path))


def _alpaca(environment: Environment) -> Instructions:
    if environment.data is not None:
        folder = environment.data / "alpaca"
        names = sorted({path.name.split(".jsonl")[0] for path in folder.glob("*.jsonl*")})
        files = [path for name in names if (path := find_rows(folder, name))]
        if files:
            rows = [row for path in files for row in read_rows(path, ALPACA_FIELDS)]
            return _checked(rows, f"Alpaca from {folder}")
    try:
        from datasets import load_dataset  # slow to import, and only needed here

        return _checked(list(load_dataset(ALPACA_HUB, split="train")), f"{ALPACA_HUB} from the hub")
    except (OSError, ValueError) as error:
        raise UserError(
            "training.data: alpaca is neither in NASFARM_DATA nor to be had from the hub; "
            "set NASFARM_DATA, or use plain_facts, the built-in data"
        ) from error


def _checked(rows: Sequence[Any], origin: str) -> Instructions:
    kept = tuple({field: str(row[field]) for field in ALPACA_FIELDS} for row in rows if row["output"])
    if not kept:
        raise UserError(f"training.data: {origin} holds no row with an output; name another file")
    return Instructions(kept, origin)


def tokenize(rows: Iterable[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[Example]:
    """Turn rows into examples of at most `limit` tokens; those whose prompt alone is longer are left out."""
    prompts, responses = [], []
    for row in rows:
        instruction = (
            PROMPT.format(paired=PAIRED if row["input"] else "") + f"### Instruction:\n{row['instruction']}\n\n"
        )
        if row["input"]:
            instruction += f"### Input:\n{row['input']}\n\n"
        prompts.append(instruction + "### Response:\n")
        responses.append(row["output"])
    prompt_tokens = tokenizer(prompts)["input_ids"]
    response_tokens = tokenizer(responses, add_special_tokens=False)["input_ids"]
    examples = []
    for prompt, response in zip(prompt_tokens, response_tokens, strict=True):
        if len(prompt) < limit:
            tokens = (*prompt, *response, tokenizer.eos_token_id)
            examples.append(Example(tokens[:limit], len(prompt)))
    return examples


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
