"""The text that a study's baselines look at: whole rows of training data, drawn by a seed."""

import random
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from services.pruner.calibration import TOKENS_PER_PASS, Calibration
from services.trainer.data import load_instructions
from services.trainer.examples import tokenize
from services.trainer.row_formats import TrainingRow
from shared.environment import Environment
from shared.errors import UserError
from shared.settings.study_file import CalibrationSettings
from shared.supernet.tokenizer import load_tokenizer

ROWS = 256
"""That are made tokens of at once: most data have far more than are needed."""


def calibration_text(settings: CalibrationSettings, base: Path, seed: int, environment: Environment) -> Calibration:
    """So many tokens, or a few more as rows are whole; all there are where the data have less.

    Raises UserError where there are no data, or none that the base's tokenizer can read.
    """
    try:
        rows = list(load_instructions(settings.data, environment).rows)
        random.Random(f"{seed}/calibration").shuffle(rows)
        return Calibration(_sequences(rows, load_tokenizer(base), settings.tokens))
    except UserError as error:
        raise UserError(str(error).replace("training.data", "calibration.data")) from error


def _sequences(
    rows: Sequence[TrainingRow], tokenizer: PreTrainedTokenizerBase, at_least: int
) -> tuple[tuple[int, ...], ...]:
    """The tokens of the first rows."""
    sequences, tokens = list[tuple[int, ...]](), 0
    for first in range(0, len(rows), ROWS):
        for example in tokenize(rows[first : first + ROWS], tokenizer, TOKENS_PER_PASS):
            if tokens >= at_least:
                return tuple(sequences)
            sequences.append(example.tokens)
            tokens += len(example.tokens)
    return tuple(sequences)
