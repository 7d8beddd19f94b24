"""A tokenizer's chat template, applied to lm-eval's messages as lm-eval's `hf` model does it: by its own code."""

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from services.evaluator.tasks.lm_eval_internals import NetworklessHFLM
from shared.errors import UserError, first_line
from shared.messages import TaskItems
from shared.supernet.tokenizer import TEMPLATE_DATE

ChatRenderer = Callable[..., str]
"""From messages, and whether an answer is to follow (`add_generation_prompt`), to the prompt."""


def chat_template(asked: TaskItems, tokenizer: PreTrainedTokenizerBase | None) -> ChatRenderer | None:
    """What makes a prompt of messages; None where the task is asked without a chat template.

    lm-eval's `hf` model looks whether the tokenizer has a template of the name that it is given, and takes the default
    one all the same. Here the named one is taken, as by lm-eval's `chat_template_args={"chat_template": NAME}`.

    Raises UserError for a tokenizer without templates, or without the one that is asked for; what is returned raises it
    where the template fails on the messages.
    """
    if asked.apply_chat_template is False:
        return None
    if tokenizer is None:
        raise ValueError(f"{asked.task}: a chat template is asked for; its tokenizer is needed")
    _require(asked, tokenizer)
    named = {"chat_template": asked.apply_chat_template} if isinstance(asked.apply_chat_template, str) else {}
    model = NetworklessHFLM(tokenizer, {**named, "strftime_now": TEMPLATE_DATE.strftime})

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        try:
            return str(model.apply_chat_template(messages, add_generation_prompt))
        except Exception as error:  # templates are programs, and may fail in any way; none is a bug of ours
            raise UserError(
                f"tasks.{asked.task}: the chat template of {tokenizer.name_or_path} can't be applied to its messages "
                f"({first_line(error)}); fix the template, or leave apply_chat_template out"
            ) from error

    return render


def _require(asked: TaskItems, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError unless the tokenizer has the template that is asked for."""
    there, name = tokenizer.chat_template, asked.apply_chat_template
    where = f"tasks.{asked.task}: apply_chat_template is {str(name).lower() if name is True else name}, but"
    if not there:
        raise UserError(
            f"{where} the tokenizer of {tokenizer.name_or_path} has no chat template; name a chat model, put its "
            "chat_template.jinja beside the weights, or leave apply_chat_template out"
        )
    if not isinstance(there, dict):
        if isinstance(name, str):
            raise UserError(
                f"{where} the tokenizer of {tokenizer.name_or_path} has a single chat template, without a name; "
                "say true, or leave out the name"
            )
    elif (name if isinstance(name, str) else "default") not in there:
        raise UserError(
            f"{where} the tokenizer of {tokenizer.name_or_path} has the chat templates {', '.join(sorted(there))}; "
            "name one of them"
        )
