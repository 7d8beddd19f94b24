"""A tokenizer's files, such that releases of transformers from 4.46 on read them alike."""

import json
from pathlib import Path

from shared.json_text import parse_json
from shared.supernet.tokenizer import TOKENIZER, load_tokenizer

SETTINGS = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
PLAIN = "PreTrainedTokenizerFast"
"""A tokenizer that is what tokenizer.json says, by the name that all releases know."""
PLAIN_NAMES = (PLAIN, "TokenizersBackend")


def settle_tokenizer(source: Path, directory: Path) -> None:
    """Change the copies of a checkpoint's tokenizer files that lie in a directory: whoever loads them gets the
    tokenizer with which the checkpoint was measured.

    Raises UserError where there is no tokenizer that gives texts back.
    """
    if not any((source / name).is_file() for name in (TOKENIZER, SETTINGS, "tokenizer.model")):
        return
    file, template = directory / SETTINGS, directory / CHAT_TEMPLATE
    settings = parse_json(file.read_bytes()) if file.is_file() else {}
    tokenizer = load_tokenizer(source)
    name = type(tokenizer).__name__
    if name in PLAIN_NAMES:
        # Old releases would have it give types of tokens too, which no network of ours takes.
        settings |= {"tokenizer_class": PLAIN, "model_input_names": tokenizer.model_input_names}
    elif settings.get("tokenizer_class") in PLAIN_NAMES:  # but transformers knows the family to have one of its own
        settings["tokenizer_class"] = name
    special = settings.get("extra_special_tokens")
    if isinstance(special, list):  # in transformers 4 that is a dictionary
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    if template.is_file():  # transformers reads such a file from 4.50 on
        settings["chat_template"] = template.read_text(encoding="utf-8")
        template.unlink()
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
