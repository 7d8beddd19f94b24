"""The tokenizer as a GGUF file holds it: llama.cpp makes it anew from the pieces, so it must know how texts are cut.

Of the tokenizers in use it knows two kinds: byte-level BPE (its `gpt2`), which needs the merges and the name of the
pre-tokenizer, and SentencePiece's BPE (its `llama`), which needs a score for each piece. The latter is then that of
SentencePiece itself: before texts it puts a space even where they begin with one, as transformers no longer does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gguf import GGUFWriter, TokenType
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from services.exporter.network import ExportedNetwork
from shared.errors import UserError
from shared.supernet.tokenizer import load_tokenizer, require_embedded
from shared.text import shortened

LLAMA3_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_CUTS = LLAMA3_CUTS.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN_CUTS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = ("ByteLevel", False)
WORDS = ("ByteLevel", True)
"""Bytes only, and GPT-2's way of cutting texts into words besides."""

PRE_TOKENIZERS: Mapping[tuple[Any, ...], tuple[str, str]] = {
    (WORDS,): ("gpt-2", "gpt-2"),
    (("Digits", True), WORDS): ("smollm", "smollm"),
    (("Split", LLAMA3_CUTS), BYTES): ("smaug-bpe", "llama-bpe"),
    (("Split", QWEN2_CUTS), BYTES): ("qwen2", "qwen2"),
    (("Split", TEKKEN_CUTS), BYTES): ("tekken", "tekken"),
}
"""What llama.cpp calls a way of cutting texts: merged as usual, and with words of the vocabulary taken whole."""

UNUSED_SCORE = -1e6
"""Of what no merge makes: single characters are always there, and the rest is never made."""


@dataclass(frozen=True)
class Vocabulary:
    """Pieces in the order of their ids, with their types; the `merges` of byte-level BPE with the name of its
    pre-tokenizer, or `scores`, and whether a space is put before texts. `begins`, `ends`: whether texts do so with BOS
    and EOS."""

    pieces: Sequence[str]
    types: Sequence[TokenType]
    special: Mapping[str, int]
    begins: bool
    ends: bool
    chat_template: str | None
    merges: Sequence[str] = ()
    pre_tokenizer: str | None = None
    scores: Sequence[float] = ()
    space_prefix: bool = False

    def add_to(self, writer: GGUFWriter) -> None:
        """Write it."""
        writer.add_tokenizer_model("llama" if self.scores else "gpt2")
        if self.pre_tokenizer is not None:
            writer.add_tokenizer_pre(self.pre_tokenizer)
        writer.add_token_list(self.pieces)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_token_scores(self.scores)
        for add, name in (
            (writer.add_bos_token_id, "bos"),
            (writer.add_eos_token_id, "eos"),
            (writer.add_unk_token_id, "unk"),
            (writer.add_pad_token_id, "pad"),
        ):
            if name in self.special:
                add(self.special[name])
        writer.add_add_bos_token(self.begins)
        writer.add_add_eos_token(self.ends)
        writer.add_add_space_prefix(self.space_prefix)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(network: ExportedNetwork) -> Vocabulary:
    """The tokenizer of the network's checkpoint. Raises UserError for one that llama.cpp can't make."""
    tokenizer = load_tokenizer(network.checkpoint.directory)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"{network.checkpoint.directory}: llama.cpp needs a tokenizer.json; copy the model's own one there"
        )
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    size = network.shape.vocab_size
    if content["model"]["type"] != "BPE":
        raise _unknown(tokenizer, f"the model {content['model']['type']}")
    require_embedded(content["model"]["vocab"].values(), size, tokenizer)
    if _byte_level(content):
        how: dict[str, Any] = {
            "merges": [" ".join(_pair(merge)) for merge in content["model"]["merges"]],
            "pre_tokenizer": _pre_tokenizer(content, tokenizer),
        }
    else:
        how = {"scores": _scores(content, size), "space_prefix": _space_prefix(content, tokenizer)}
    probe = tokenizer.encode("a")
    named = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "unk", "pad")}
    special = {name: token for name, token in named.items() if token is not None and token < size}
    pieces, types = _pieces(content, size, special.get("unk"))
    return Vocabulary(
        pieces=pieces,
        types=types,
        special=special,
        begins="bos" in special and probe[:1] == [special["bos"]],
        ends="eos" in special and probe[-1:] == [special["eos"]],
        chat_template=_chat_template(tokenizer),
        **how,
    )


def _pieces(content: Mapping[str, Any], size: int, unknown: int | None) -> tuple[list[str], list[TokenType]]:
    """Every piece up to the number of embeddings; ids that are none get a name and are never used."""
    pieces = [f"[PAD{index}]" for index in range(size)]
    types = [TokenType.UNUSED] * size
    bytes_alone = bool(content["model"].get("byte_fallback"))
    for piece, index in content["model"]["vocab"].items():
        pieces[index] = piece
        is_byte = bytes_alone and len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
        types[index] = TokenType.BYTE if is_byte else TokenType.NORMAL
    for token in content["added_tokens"]:
        index = token["id"]
        if index >= size:  # transformers adds tokens that a class is to have, whether the network knows them or not
            continue
        pieces[index] = token["content"]
        types[index] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    if unknown is not None and not _byte_level(content):
        types[unknown] = TokenType.UNKNOWN
    return pieces, types


def _byte_level(content: Mapping[str, Any]) -> bool:
    return any(step["type"] == "ByteLevel" for step in _steps(content["pre_tokenizer"], "pretokenizers"))


def _steps(section: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    """What a pre-tokenizer or normaliser does, one after the other."""
    if section is None:
        return []
    return list(section[key]) if section["type"] == "Sequence" else [section]


def _pre_tokenizer(content: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    steps = tuple(_step(step) for step in _steps(content["pre_tokenizer"], "pretokenizers"))
    names = PRE_TOKENIZERS.get(steps)
    normalizers = {step["type"] for step in _steps(content["normalizer"], "normalizers")} - {"NFC"}
    if names is None or normalizers:
        what = ", ".join(sorted(normalizers)) or " and ".join(" ".join(map(str, step)) for step in steps)
        raise _unknown(tokenizer, f"this way of cutting texts: {shortened(what)}")
    return names[bool(content["model"].get("ignore_merges"))]


def _step(step: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides where a step cuts."""
    kind = step["type"]
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return (kind, step["use_regex"])
    if kind == "Digits":
        return (kind, step["individual_digits"])
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return (kind, step["pattern"].get("Regex"))
    return (kind,)


def _pair(merge: str | Sequence[str]) -> Sequence[str]:
    return merge.split(" ") if isinstance(merge, str) else merge


def _scores(content: Mapping[str, Any], size: int) -> list[float]:
    """SentencePiece merges the neighbours of the highest score first: of each piece, that of the first merge to make
    it."""
    vocabulary: Mapping[str, int] = content["model"]["vocab"]
    scores = [UNUSED_SCORE] * size
    for rank, merge in enumerate(content["model"]["merges"]):
        index = vocabulary.get("".join(_pair(merge)))
        if index is not None and scores[index] == UNUSED_SCORE:
            scores[index] = -float(rank)
    return scores


def _space_prefix(content: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text gets a space before it. Raises UserError where spaces are no ▁, as SentencePiece has them."""
    steps = _steps(content["normalizer"], "normalizers") + _steps(content["pre_tokenizer"], "pretokenizers")
    spaces = [step for step in steps if step["type"] == "Metaspace" or step.get("content") == "▁"]
    others = {step["type"] for step in steps} - {"Prepend", "Replace", "Metaspace", "Split"}
    if not spaces or others or not content["model"].get("byte_fallback"):
        raise _unknown(tokenizer, f"this way of cutting texts: {shortened(', '.join(sorted(others)) or 'none')}")
    return any(step["type"] == "Prepend" or step.get("prepend_scheme", "never") != "never" for step in steps)


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _unknown(tokenizer: PreTrainedTokenizerBase, what: str) -> UserError:
    return UserError(f"{tokenizer.name_or_path}: llama.cpp's tokenizers don't know {what}; choose another format")
