"""What is trained on: training data as the tokens of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from services.trainer.data import Instructions, load_instructions
from services.trainer.examples import TOO_LONG, Example, Tokenized, tokenized
from shared.checkpoint_files import TOKENIZER
from shared.digest import digest_file
from shared.environment import Environment
from shared.errors import UserError
from shared.settings import TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.tokenizer import load_tokenizer, require_embedded


@dataclass(frozen=True)
class TrainingData:
    """Rows and the examples that they become: of one tokenizer, and of at most `tokens_per_step` tokens each.

    `name` is what settings call the data. `tokenizer_files` are the digests of the tokenizer's files, by which
    checkpoints that were made of one model can share its data.
    """

    name: str
    instructions: Instructions
    tokenized: Tokenized
    tokens_per_step: int
    tokenizer: PreTrainedTokenizerBase
    tokenizer_files: dict[str, str]

    @property
    def examples(self) -> Sequence[Example]:
        """What is trained on."""
        return self.tokenized.examples

    @property
    def digest(self) -> str:
        """Identity of the data."""
        return self.instructions.digest

    @property
    def origin(self) -> str:
        """Where the data came from."""
        return self.instructions.origin

    @property
    def left_out(self) -> list[str]:
        """Messages about rows of the data that are not trained on."""
        reasons = self.tokenized.left_out.most_common()
        said = [f"{number:,} {'row' if number == 1 else 'rows'} left out: {reason}" for reason, number in reasons]
        return [self.instructions.left_out, *said] if self.instructions.left_out else said


def load_training_data(
    network: Checkpoint, settings: TrainingSettings, environment: Environment, given: TrainingData | None = None
) -> TrainingData:
    """The data that settings name, for a network. `given` was loaded for another one: what of it is the same for this
    one isn't loaded again.

    Raises UserError for data that can't be loaded or have tokens that the network has no embeddings for, and where no
    row fits into a step.
    """
    given = given if given is not None and given.name == settings.data else None
    files, limit = tokenizer_files(network.directory), settings.tokens_per_step
    if given is not None and (given.tokenizer_files, given.tokens_per_step) == (files, limit):
        data = given
    else:
        instructions = load_instructions(settings.data, environment) if given is None else given.instructions
        tokenizer = load_tokenizer(network.directory)
        made = tokenized(instructions.rows, tokenizer, limit)
        data = TrainingData(settings.data, instructions, made, limit, tokenizer, files)
    tokens = (token for example in data.examples for token in example.tokens)
    require_embedded(tokens, network.network.vocab_size, data.tokenizer)
    if not data.examples:
        if set(data.tokenized.left_out) == {TOO_LONG}:
            raise UserError(f"training.data: no row of {data.origin} fits into training.tokens_per_step; raise it")
        raise UserError(
            f"training.data: no row of {data.origin} can be trained on ({'; '.join(data.left_out)}); name other data"
        )
    return data


def tokenizer_files(directory: Path) -> dict[str, str]:
    """Digests of the files of a checkpoint's tokenizer."""
    files = sorted({file for pattern in TOKENIZER for file in directory.glob(pattern) if file.is_file()})
    return {file.relative_to(directory).as_posix(): digest_file(file) for file in files}
