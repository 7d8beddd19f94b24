"""Tasks that exist only in a test, and tokenizers that begin a text, or write a chat, in different ways."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from lm_eval.tasks._index import Entry, Kind
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from services.evaluator.tasks.index import task_manager
from tests.support.checkpoints import tiny_tokenizer


def register(monkeypatch: pytest.MonkeyPatch, name: str, rows: Sequence[dict[str, Any]], **config: Any) -> None:
    """Make a task known to lm-eval for the length of a test, with `rows` as its split `test`."""
    task = {
        "task": name,
        "custom_dataset": lambda **_: DatasetDict({"test": Dataset.from_list(list(rows))}),
        "test_split": "test",
        **config,
    }
    entry = Entry(name=name, kind=Kind.TASK, yaml_path=None, cfg=task)
    monkeypatch.setitem(task_manager().task_index, name, entry)


def tokenizer_with_bos() -> PreTrainedTokenizerFast:
    """Puts BOS before every text, as Llama's does."""
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def tokenizer_without_bos() -> PreTrainedTokenizerFast:
    """Has no BOS, as Qwen's: a text without context is read after EOS."""
    return PreTrainedTokenizerFast(
        tokenizer_object=deepcopy(tiny_tokenizer().backend_tokenizer), eos_token="</s>", pad_token="</s>"
    )


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat as Qwen's and SmolLM2's templates write it."""
INSTRUCTED = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if message.role == 'user' %}[INST] {{ message.content | trim }} [/INST]"
    "{% else %} {{ message.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""As Mistral's and Gemma's: it begins with BOS, knows no system role and takes spaces away."""


def tokenizer_with_chat(template: str | dict[str, str] = CHATML, bos: bool = False) -> PreTrainedTokenizerFast:
    """Has a chat template, or several by name, and tokens for them; `bos`: puts BOS before every text, too."""
    tokenizer = tokenizer_with_bos() if bos else deepcopy(tiny_tokenizer())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer
