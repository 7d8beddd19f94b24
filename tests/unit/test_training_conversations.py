"""How conversations and plain texts become training tokens: as the model's template writes them, answers learnt."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from services.trainer.examples import Example, tokenize, tokenized
from services.trainer.fine_tuning import response_loss
from services.trainer.make_supernet import plan_training
from services.trainer.step_division import Share, response
from shared.environment import Environment
from shared.errors import UserError
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import tiny_tokenizer, write_checkpoint
from tests.support.tasks import CHATML, INSTRUCTED, tokenizer_with_chat
from tests.support.tiny_training import tiny_settings

REASONED = (
    "{% for message in messages %}{% if message.role == 'assistant' and loop.last %}<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n{{ message.content }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen3's: only the last answer has room for reasoning."""
PROMISED = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
"""As those of models that always reason first: what asks for an answer begins the reasoning."""
REVERSED = "{% for message in messages | reverse %}{{ message.content }}\n{% endfor %}"
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML


def chat(*contents: str, system: str | None = None) -> dict[str, Any]:
    """A conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": content} for place, content in enumerate(contents)]
    return {"messages": [{"role": "system", "content": system}] * (system is not None) + messages}


def learnt(example: Example, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The texts that are learnt: tokens that follow one another are one."""
    parts: list[list[int]] = []
    former = None
    for place in response(example):
        if former is None or place != former + 1:
            parts.append([])
        parts[-1].append(example.tokens[place])
        former = place
    return [tokenizer.decode(part) for part in parts]


def as_transformers_reads(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return list(tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False))


CONVERSATION = chat("Say one.", "One.", "Say two.", "Two", "Say three.", " Three\n\n", system="Be short.")


def test_the_tokens_of_a_conversation_are_those_of_the_template_and_all_answers_are_learnt_with_their_ends() -> None:
    tokenizer = tokenizer_with_chat()
    (made,) = tokenize([CONVERSATION], tokenizer, 1000)
    assert list(made.tokens) == as_transformers_reads(CONVERSATION, tokenizer)
    assert learnt(made, tokenizer) == ["One.<|im_end|>\n", "Two<|im_end|>\n", " Three\n\n<|im_end|>\n"]
    assert Share(0, [made]).learnt_tokens(False) == len(response(made)) < len(made.tokens) - made.response


@pytest.mark.parametrize("bos", [True, False])
def test_special_tokens_are_the_template_s_alone(bos: bool) -> None:
    tokenizer = tokenizer_with_chat(INSTRUCTED, bos=bos)
    row = chat("Say one. ", " One.", "Say two.", "Two")
    (made,) = tokenize([row], tokenizer, 1000)
    assert list(made.tokens) == as_transformers_reads(row, tokenizer)
    assert made.tokens.count(tokenizer.bos_token_id) == 1 and made.tokens.count(tokenizer.eos_token_id) == 2
    assert learnt(made, tokenizer) == [" One.</s>", " Two</s>"]


WORDS = st.text(st.sampled_from("ab é東\n.<>|"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(WORDS, min_size=2, max_size=6).filter(lambda said: len(said) % 2 == 0),
    st.sampled_from([CHATML, INSTRUCTED]),
)
def test_whatever_is_said_nothing_but_answers_is_learnt_and_all_of_them(said: list[str], template: str) -> None:
    tokenizer = tokenizer_with_chat(template)
    (made,) = tokenize([chat(*said)], tokenizer, 10_000)
    assert list(made.tokens) == as_transformers_reads(chat(*said), tokenizer)
    ends = {CHATML: "<|im_end|>\n", INSTRUCTED: "</s>"}[template]
    answers = [answer if template == CHATML else f" {answer.strip()}" for answer in said[1::2]]
    for found, answer in zip(learnt(made, tokenizer), answers, strict=True):
        # A token of both the line end before and the answer belongs to the answer.
        assert found.removeprefix("\n" if not answer.startswith("\n") else "").endswith(answer + ends)
        assert len(found) <= len(answer + ends) + 1


def test_where_a_template_writes_former_answers_otherwise_each_is_learnt_as_the_model_would_write_it() -> None:
    tokenizer = tokenizer_with_chat(REASONED)
    row = chat("Say one.", "One.", "Say two.", "Two.")
    made = tokenize([row], tokenizer, 1000)
    written = "<think>\n\n</think>\n\n"
    assert [learnt(each, tokenizer) for each in made] == [
        [f"{written}One.<|im_end|>\n"],
        [f"{written}Two.<|im_end|>\n"],
    ]
    assert list(made[1].tokens) == as_transformers_reads(row, tokenizer)
    assert len(tokenize([chat("Say one.", "One.")], tokenizer, 1000)) == 1


def test_what_a_template_promises_of_an_answer_that_has_it_not_is_no_part_of_it() -> None:
    tokenizer = tokenizer_with_chat(PROMISED)
    (made,) = tokenize([chat("Say one.", "One.", "Say two.", "Two.")], tokenizer, 1000)
    assert learnt(made, tokenizer) == ["One.<|im_end|>\n", "Two.<|im_end|>\n"]


def test_the_date_of_a_template_is_always_the_same() -> None:
    (made,) = tokenize([chat("Hi", "Ho")], tokenizer := tokenizer_with_chat(DATED), 1000)
    assert tokenizer.decode(made.tokens).startswith("26 Jul 2024\n")


def test_conversations_that_a_template_does_not_take_are_left_out_and_counted() -> None:
    strict = tokenizer_with_chat(INSTRUCTED)
    made = tokenized([CONVERSATION, chat("Hi", "Ho"), CONVERSATION], strict, 1000)
    assert len(made.examples) == 1
    assert made.left_out == {
        "the model's chat template can't be applied to them (System role not supported)": 2,
    }
    made = tokenized([chat("Hi", "Ho")], tokenizer_with_chat(REVERSED), 1000)
    assert made.left_out == {"the model's chat template doesn't write answers where it asks for them": 1}


def test_a_long_conversation_is_cut_in_its_last_answer_that_begins_before_the_limit() -> None:
    tokenizer = tokenizer_with_chat()
    (whole,) = tokenize([CONVERSATION], tokenizer, 1000)
    places = response(whole)
    for limit in range(20, len(whole.tokens) + 1):
        fitting = [place for place in places if place < limit]
        made = tokenize([CONVERSATION], tokenizer, limit)
        assert [list(response(each)) for each in made] == ([fitting] if fitting else [])
        assert all(each.tokens == whole.tokens[: fitting[-1] + 1] for each in made)


@pytest.mark.parametrize(
    ("template", "lacks"), [(None, "no chat template"), ({"rag": CHATML}, "no default chat template, only rag")]
)
def test_conversations_without_a_template_are_refused_with_what_to_do(template: Any, lacks: str) -> None:
    complaint = (
        rf"training\.data: its rows are chats, but the tokenizer of .* has {lacks}; name a chat model, or put its"
    )
    with pytest.raises(UserError, match=complaint) as refusal:
        tokenize([CONVERSATION], tokenizer_with_chat(template), 1000)
    assert "\n" not in str(refusal.value)


def test_of_several_templates_the_default_one_is_taken() -> None:
    several = tokenizer_with_chat({"rag": REVERSED, "default": CHATML})
    assert tokenize([CONVERSATION], several, 1000) == tokenize([CONVERSATION], tokenizer_with_chat(), 1000)


def test_the_loss_of_a_conversation_is_transformers_loss_with_all_but_the_answers_masked(tmp_path: Path) -> None:
    tokenizer = tokenizer_with_chat()
    model = write_checkpoint(tmp_path, "qwen2", vocab_size=len(tokenizer))
    (made,) = tokenize([CONVERSATION], tokenizer, 1000)
    tokens = torch.tensor([made.tokens])
    labels = torch.full_like(tokens, -100)
    labels[0, response(made)] = tokens[0, response(made)]
    ours = response_loss(Checkpoint.open(tmp_path).cut(), pack([Tree.plain(made.tokens)]), [made])
    with torch.inference_mode():
        assert ours.item() == pytest.approx(model(tokens, labels=labels).loss.item(), rel=1e-5)


def test_of_a_plain_text_everything_is_learnt_and_one_that_is_too_long_goes_on_in_further_examples() -> None:
    tokenizer = tokenizer_with_chat(bos=True)
    text = "One two three four five six seven. " * 3
    (whole,) = tokenize([{"text": text}], tokenizer, 1000)
    assert list(whole.tokens) == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert list(response(whole)) == list(range(1, len(whole.tokens)))
    parts = tokenize([{"text": text}], tokenizer, len(whole.tokens) // 2)
    assert tuple(token for part in parts for token in part.tokens) == whole.tokens[: sum(len(p.tokens) for p in parts)]
    assert len(whole.tokens) - sum(len(part.tokens) for part in parts) == len(whole.tokens) % 2
    assert all(list(response(part)) == list(range(1, len(part.tokens))) for part in parts)
    assert tokenize([{"text": "One.</s>"}], tokenizer, 1000) == tokenize([{"text": "One."}], tokenizer, 1000)


def written(directory: Path, *rows: dict[str, Any]) -> str:
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(directory / "rows.jsonl")


def test_a_plan_says_how_many_conversations_the_template_does_not_take_and_is_refused_if_it_takes_none(
    tmp_path: Path,
) -> None:
    nowhere = Environment(data=None, cache=tmp_path, threads=1)
    tokenizer = tokenizer_with_chat(INSTRUCTED)
    write_checkpoint(tmp_path / "base", "llama", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "base")
    data = written(tmp_path, CONVERSATION, chat("Hi", "Ho"))
    plan = plan_training(tiny_settings(tmp_path, data=data), tmp_path / "base", nowhere)
    assert len(plan.data.examples) == 1 and plan.data.left_out[0].startswith("1 row left out: the model's chat templ")
    data = written(tmp_path, CONVERSATION)
    with pytest.raises(
        UserError, match=r"no row of .*rows\.jsonl can be trained on \(1 row left out: the model's chat"
    ):
        plan_training(tiny_settings(tmp_path, data=data), tmp_path / "base", nowhere)
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"training\.data: its rows are chats, but the tokenizer of .*base has no chat"):
        plan_training(tiny_settings(tmp_path, data=data), tmp_path / "base", nowhere)
