"""All that nasfarm changes or takes of lm-eval's internals, as of 0.4.13, with the reason why its public ways don't do.

pyproject.toml keeps lm-eval below 0.4.14: what is here may be otherwise in any release. To raise that bound, look at
each piece below, then run tests/integration/test_lm_eval_agreement.py. What else nasfarm uses of lm-eval is public,
but that `index.py` fills a task manager by changing the dictionary that its `task_index` returns.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval.utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import _factory
from lm_eval.tasks._index import Entry, Kind
from transformers import PreTrainedTokenizerBase

# lm-eval compiles a template anew each time it fills it in, for every item of every network that is scored. The
# environment that does so is a global, which no task can have another one in place of.
lm_eval.utils.env.from_string = lru_cache(maxsize=1024)(lm_eval.utils.env.from_string)


@contextmanager
def making(task_class: type[ConfigurableTask]) -> Iterator[None]:
    """While this lasts, lm-eval makes its tasks of `task_class`; but for those that are classes in Python themselves.

    `TaskManager.load` takes overrides of a task's definition, among them `class`. But it doesn't put them together with
    the definition of a task that it knows by name, nor hands them on to the tasks of a tag, and a task defined within a
    group is a ConfigurableTask whatever its definition says.
    """
    with _replaced(_factory, "ConfigurableTask", task_class):
        yield


Download = Callable[[ConfigurableTask, Callable[[], None]], None]
"""Gives a task its `dataset`; the second argument has lm-eval do so in its own way."""


@contextmanager
def downloading(download: Download) -> Iterator[None]:
    """While this lasts, `download` is called where lm-eval's tasks fetch their data, in their constructor.

    A subclass wouldn't reach tasks that are classes in Python, which derive from ConfigurableTask themselves. Nor is a
    `custom_dataset` told which task asks, or able to say that a split is missing.
    """
    original = ConfigurableTask.download

    def replacement(task: ConfigurableTask, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        download(task, lambda: original(task, dataset_kwargs, **kwargs))

    with _replaced(ConfigurableTask, "download", replacement):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


class NetworklessHFLM(HFLM):  # type: ignore[misc]  # lm-eval is untyped
    """lm-eval's `hf` model without a network, for what it does to text: tokens and chat templates.

    HFLM's own constructor loads a network, or takes a loaded one, and gives the tokenizer a padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template_args: dict[str, Any] | None = None) -> None:
        TemplateLM.__init__(self)
        self.tokenizer = tokenizer
        self.chat_template_args = chat_template_args or {}
        self.backend = "causal"
        self.add_bos_token = None
        self.custom_prefix_token_id = None
        self.enable_thinking = False
        self.tok_encode = lru_cache(maxsize=4)(super().tok_encode)  # all choices of an item have the same context


def index_entry(name: str, kind: str, file: Path | None, tags: set[str]) -> Any:
    """An entry of `TaskManager.task_index`, whose class is private. There is no public way to fill that index but to
    read 13,000 files."""
    return Entry(name=name, kind=Kind[kind], yaml_path=file, tags=tags)
