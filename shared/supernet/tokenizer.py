"""A checkpoint's tokenizer, checked: decoding what it encodes gives the text back."""

import logging
import unicodedata
from collections.abc import Iterable
from datetime import date
from functools import cache
from pathlib import Path

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from shared.errors import UserError, first_line
from shared.manifest import read_config
from shared.network.config import MODEL_TYPE
from shared.supernet.config import transformers_config
from shared.text import shown

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"

TEMPLATE_DATE = date(2024, 7, 26)
"""What a chat template is told that asks for the date, as Llama 3's do: their own default. What is trained on, and the
prompts of a search, must not change from one day to the next."""

PROBE = "The  quick brown-fox, it's\n\n\tjumping over 12 dogs.\n  Ça coûte 3,50 € (naïve) 東京!\nEnd\n"
"""A text with all that a tokenizer could lose: spaces, several spaces, line ends, tabs, letters, digits, signs, and
what isn't ASCII. It is the same in Unicode's composed forms."""


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, as transformers loads it by the hub's id.

    transformers makes tokenizers of some classes anew from the vocabulary alone, and leaves out how tokenizer.json cuts
    texts. Byte-level ones that are declared to be Llama 2's (`LlamaTokenizerFast`: DeepSeek-R1-Distill-Llama,
    deepseek-coder) lose spaces and line ends by that. transformers knows some of these by their ids at the hub, which a
    directory hasn't, and takes their tokenizer.json as it is. So do we, wherever only that gives texts back.

    Code that comes with the checkpoint (`auto_map`) is never run: tokenizer.json is read instead.

    Raises UserError where there is no tokenizer, or none that gives texts back.
    """
    try:
        tokenizer = _as_declared(directory)
        if _keeps_texts(tokenizer):
            return tokenizer
        plain = _plain(directory)
    except UserError:
        raise
    except Exception as error:  # transformers and tokenizers raise many kinds, a bare Exception among them
        raise UserError(
            f"{directory}: no readable tokenizer ({first_line(error)}); copy {TOKENIZER} beside the weights"
        ) from error
    if plain is not None and _keeps_texts(plain):
        _tell_of_class(directory, type(tokenizer).__name__)
        return plain
    for candidate in (tokenizer, plain):
        if candidate is not None and _keeps_texts(candidate, small=True):
            return candidate
    raise UserError(
        f"{directory}: its tokenizer doesn't give texts back, {PROBE!r} becomes {_there_and_back(tokenizer, PROBE)!r}; "
        f"copy the model's own {TOKENIZER} and tokenizer_config.json beside the weights"
    )


def require_embedded(tokens: Iterable[int], vocabulary: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError for a token id that a network with so many embeddings doesn't know."""
    highest = max(tokens, default=0)
    if highest >= vocabulary:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer has the token {shown(tokenizer.convert_ids_to_tokens(highest))} "
            f"({highest}), the network has embeddings of 0 to {vocabulary - 1} only; copy the model's own {TOKENIZER} "
            "and tokenizer_config.json beside the weights, or resize the network's embeddings"
        )


def _as_declared(directory: Path) -> PreTrainedTokenizerBase:
    """A tokenizer of the class that tokenizer_config.json declares, unless that is code that comes with it."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, **_family_of_ours(directory)
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        plain = _plain(directory)
        if plain is None:
            raise UserError(
                f"{directory}: its tokenizer is code of its own (auto_map), which is never run; "
                f"copy a {TOKENIZER} beside the weights"
            ) from error
        return plain
    return tokenizer


def _family_of_ours(directory: Path) -> dict[str, PretrainedConfig]:
    """The family's config for a network of our model type: transformers asks the family which tokenizer it has."""
    values = read_config(directory) if (directory / "config.json").is_file() else {}
    return {"config": transformers_config(values)} if values.get("model_type") == MODEL_TYPE else {}


def _plain(directory: Path) -> PreTrainedTokenizerBase | None:
    """What tokenizer.json says, whatever class tokenizer_config.json declares; None where there is none."""
    if not (directory / TOKENIZER).is_file():
        return None
    plain: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(directory)
    return plain


def _keeps_texts(tokenizer: PreTrainedTokenizerBase, small: bool = False) -> bool:
    """Whether a text comes back, but for what the tokenizer's own normalisation does to it, cases and forms of letters,
    and a space that is put before it.

    A `small` vocabulary may lack characters, which don't come back alone either. But without spaces and line ends there
    is no text.
    """
    expected = PROBE
    normalizer = tokenizer.backend_tokenizer.normalizer if isinstance(tokenizer, PreTrainedTokenizerFast) else None
    if normalizer is not None:
        expected = normalizer.normalize_str(PROBE).replace("▁", " ")
    if small:
        alone = {character: _there_and_back(tokenizer, character) for character in expected if not character.isspace()}
        lacking = {character for character, found in alone.items() if _comparable(character) not in _comparable(found)}
        expected = "".join(character for character in expected if character not in lacking)
    return _comparable(expected) == _comparable(_there_and_back(tokenizer, PROBE))


def _there_and_back(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _comparable(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().lstrip(" ")


@cache
def _tell_of_class(directory: Path, name: str) -> None:
    """Once in a process: a tokenizer is loaded for every task."""
    log.warning("%s: tokenizer.json is used as it is: as a %s it would lose spaces or more", directory, name)
