"""Small tokenizers of the kinds that checkpoints come with, made by hand."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from shared import facts

TEXTS = [f"{row['instruction']} {row['input']}\n\n### {row['output']}\n\n\n  " for row in facts.instructions()]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NAMED = {"bos_token": "<s>", "eos_token": "</s>"}


@cache
def _learnt(byte_level: bool) -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces and merges learnt from the built-in instructions."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level else _metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    trainer = BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), [tuple(merge) for merge in model["merges"]]


def _metaspace() -> Any:
    return pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")


def _template(single: str) -> Any:
    return processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])


def byte_level(single: str = "$A", trimmed: bool = False) -> Tokenizer:
    """As GPT-2's, SmolLM's and Llama 3's; `single` is the template of a text, `trimmed`: offsets are told without
    spaces, which is the usual."""
    pieces, merges = _learnt(byte_level=True)
    vocabulary = {piece: index for index, piece in enumerate(["<unk>", "<s>", "</s>", *pieces])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    processor = processors.ByteLevel(trim_offsets=trimmed)
    tokenizer.post_processor = processors.Sequence([processor, _template(single)])
    return tokenizer


def metaspace(single: str = "<s> $A", legacy: bool = True) -> Tokenizer:
    """As Llama 2's: spaces are ▁, one is put before a text, what isn't known is spelt in bytes. `legacy`: a normaliser
    does that, as in the files of its time; otherwise what cuts texts, as transformers has it now."""
    pieces, merges = _learnt(byte_level=False)
    vocabulary = {piece: index for index, piece in enumerate(["<unk>", "<s>", "</s>", *BYTES, *pieces])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = _template(single)
    return tokenizer


def wrapped(tokenizer: Tokenizer, **named: str) -> PreTrainedTokenizerFast:
    """For transformers; BOS and EOS are named unless others are."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(named or NAMED))


def write_tokenizer(directory: Path, tokenizer: Tokenizer, declared: str, **config: Any) -> None:
    """The files of a tokenizer, which tokenizer_config.json declares to be of some class."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": declared, **NAMED, "unk_token": "<unk>", **config}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
