"""Prompts made of messages by a tokenizer's chat template. That they are lm-eval's is tested beside the scores."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from services.evaluator.evaluator import Evaluator
from services.evaluator.tasks.loading import load_items
from shared.architecture import Architecture
from shared.environment import Environment
from shared.errors import UserError
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, Failure, TaskItems
from tests.support.checkpoints import LAYERS, WIDTH, tiny_tokenizer, write_checkpoint
from tests.support.content import digest_of
from tests.support.tasks import CHATML, register, tokenizer_with_chat

SEVERAL = {"default": CHATML, "short": "{{ messages[-1].content }}"}


def asked(**settings: Any) -> TaskItems:
    return TaskItems(**{"task": "plain_facts", "num_fewshot": 1, "stop": 2, "apply_chat_template": True, **settings})


def prompts(tokenizer: PreTrainedTokenizerBase | None, **settings: Any) -> list[str]:
    return [str(document.context) for document in load_items(asked(**settings), None, tokenizer).documents]


def test_examples_are_turns_of_the_chat_or_stand_in_the_question_s() -> None:
    plain, turns = prompts(None, apply_chat_template=False), prompts(tokenizer_with_chat())
    one_turn = prompts(tokenizer_with_chat(), fewshot_as_multiturn=False)
    assert one_turn == [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in plain]
    for prompt in turns:
        roles = ["user", "assistant", "user", "assistant"]
        assert [turn.split("\n")[0] for turn in prompt.split("<|im_start|>")[1:]] == roles


def test_a_choice_follows_the_template_without_a_space() -> None:
    (document,) = load_items(asked(stop=1), None, tokenizer_with_chat()).documents
    choices = document.task.doc_to_choice(document.doc)
    assert [request.args for request in document.requests()] == [(document.context, choice) for choice in choices]


def test_a_template_is_had_by_its_name() -> None:
    short = prompts(tokenizer_with_chat(SEVERAL), apply_chat_template="short")
    assert all(prompt.startswith("Question: ") for prompt in short)
    assert prompts(tokenizer_with_chat(SEVERAL)) == prompts(tokenizer_with_chat())


@pytest.mark.parametrize(
    ("templates", "settings", "complaint"),
    [
        (None, {}, "apply_chat_template is true, but the tokenizer of .* has no chat template; name a chat model"),
        (None, {"apply_chat_template": "short"}, "is short, but the tokenizer of .* has no chat template"),
        (CHATML, {"apply_chat_template": "short"}, "has a single chat template, without a name; say true"),
        (SEVERAL, {"apply_chat_template": "long"}, "has the chat templates default, short; name one of them"),
        ({"short": "x"}, {}, "is true, but .* has the chat templates short; name one of them"),
        ("{{ messages[9].role.upper() }}", {}, r"can't be applied to its messages \(.*\); fix the template, or leave"),
        ("{% for", {}, r"can't be applied to its messages \(.*\); fix the template"),
        ("{{ raise_exception('no\n chats') }}", {}, r"can't be applied to its messages \(no\)"),
    ],
)
def test_what_no_prompt_can_be_made_of_is_refused_in_one_line(
    templates: Any, settings: dict[str, Any], complaint: str
) -> None:
    tokenizer = tiny_tokenizer() if templates is None else tokenizer_with_chat(templates)
    with pytest.raises(UserError, match=rf"^tasks\.plain_facts: .*{complaint}") as refusal:
        prompts(tokenizer, **settings)
    assert "\n" not in str(refusal.value)


def test_a_template_that_asks_for_the_date_makes_the_same_prompt_every_day() -> None:
    dated = tokenizer_with_chat("{{ strftime_now('%d %b %Y') }} {{ messages[0].content }}")
    assert all(prompt.startswith("26 Jul 2024 ") for prompt in prompts(dated))


def test_a_text_that_is_scored_as_a_whole_is_scored_without_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}
    register(monkeypatch, "texts", [{"text": "Ice is made of water."}], **texts)
    (document,) = load_items(asked(task="texts", stop=1, num_fewshot=None), None, tokenizer_with_chat()).documents
    assert [request.args for request in document.requests()] == [("Ice is made of water.",)]


def test_an_evaluator_applies_the_template_that_the_request_asks_for(tmp_path: Path) -> None:
    tokenizer, model = tokenizer_with_chat(), tmp_path / "model"
    write_checkpoint(model, "llama", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(model)
    evaluator = Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1))
    reference = CheckpointRef(location=str(model), digest=digest_of(model))
    chat, plain = (evaluator.prepared(reference, asked(apply_chat_template=applied)) for applied in (True, False))
    assert chat.digest != plain.digest
    assert all("<|im_start|>" in str(document.context) for document in chat.documents)


def test_a_tokenizer_without_a_template_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.evaluator.evaluator.to_device", lambda *_: pytest.fail("computed"))
    write_checkpoint(tmp_path / "model", "llama")
    request = EvaluationRequest(
        search="any",
        checkpoint=CheckpointRef(location=str(tmp_path / "model"), digest=digest_of(tmp_path / "model")),
        architecture=Architecture(layers=tuple(range(LAYERS)), mlp_widths=(WIDTH,) * LAYERS),
        spec=EvaluationSpec(tasks=(asked(),), dtype="float32"),
    )
    outcome = Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1)).evaluate(request).outcome
    assert isinstance(outcome, Failure) and outcome.kind == "bad_request"
    assert f"the tokenizer of {tmp_path / 'model'} has no chat template" in outcome.reason
