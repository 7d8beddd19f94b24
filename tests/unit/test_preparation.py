"""Items made ready to be scored: their tokens, their trees, their rows."""

from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoConfig, PreTrainedTokenizerFast

from services.evaluator.batches import Continuation
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.tasks.loading import load_items
from services.evaluator.tokenisation import tokenize_requests
from shared.errors import UserError
from shared.messages import TaskItems
from tests.support.checkpoints import tiny_tokenizer
from tests.support.data import benchmark_data
from tests.support.tasks import tokenizer_with_bos, tokenizer_with_chat


def unfolded(task: PreparedTask) -> dict[int, list[Continuation]]:
    """What a network that obeys the trees reads and predicts for each request."""
    windows: dict[int, list[Continuation]] = {}
    for group in task.prefix_groups:
        for member in group.members:
            for owner in dict.fromkeys(member.owners):
                scored = [entry for entry in range(len(member.owners)) if member.owners[entry] == owner]
                last = member.places[scored[-1]]
                path = [place for place in range(last + 1) if member.tree.ends[place] > last]
                before = len(group.prefix)
                assert [member.places[entry] for entry in scored] == path[-len(scored) :]
                assert [member.tree.positions[place] for place in path] == list(range(before, before + len(path)))
                inputs = (*group.prefix, *(member.tree.tokens[place] for place in path))
                targets = tuple(member.targets[entry] for entry in scored)
                windows.setdefault(owner, []).append(Continuation(inputs, targets))
    return windows


@pytest.mark.parametrize(
    ("asked", "shared"),
    [
        (TaskItems(task="plain_facts", stop=30), False),
        (TaskItems(task="mmlu_anatomy", num_fewshot=5, stop=6), True),
        (TaskItems(task="mmlu_stem", num_fewshot=1, stop=60), True),
        (TaskItems(task="winogrande", stop=10), False),
        (TaskItems(task="wikitext", stop=1), False),
    ],
    ids=lambda value: value.task if isinstance(value, TaskItems) else "",
)
def test_a_prepared_task_unfolds_to_the_tokens_of_its_requests(asked: TaskItems, shared: bool) -> None:
    data = benchmark_data()
    task = prepared(asked, max_length=2048, data=data)
    requests = [request for document in task.documents for request in document.requests()]
    windows = tokenize_requests(requests, tiny_tokenizer(), 2048)
    assert unfolded(task) == {number: list(own) for number, own in enumerate(windows)}
    assert any(group.prefix for group in task.prefix_groups) == shared
    assert task.tokens < sum(len(window.inputs) for own in windows for window in own) or asked.task == "wikitext"


def test_the_batches_hold_every_scored_token_of_every_request_once() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=60))
    found: Counter[tuple[int, int, int]] = Counter()
    for group in task.prefix_groups:
        for batch in group.batches:
            read = batch.packed.tokens[batch.places[batch.at]]
            found.update(zip(batch.owners.tolist(), read.tolist(), batch.targets.tolist(), strict=True))
    expected: Counter[tuple[int, int, int]] = Counter()
    for owner, (window,) in unfolded(task).items():
        read_last = window.inputs[-len(window.targets) :]
        expected.update((owner, own, target) for own, target in zip(read_last, window.targets, strict=True))
    assert found == expected
    assert task.requests == (4,) * 60


def prepared(
    asked: TaskItems,
    max_length: int = 500,
    batch_tokens: int = 400,
    data: Path | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> PreparedTask:
    tokenizer = tiny_tokenizer() if tokenizer is None else tokenizer
    config = AutoConfig.for_model("llama", max_position_embeddings=max_length)
    return prepare_task(
        asked.task, load_items(asked, data, tokenizer), tokenizer, config, torch.device("cpu"), batch_tokens
    )


@pytest.mark.parametrize("multiturn", [True, False])
def test_the_examples_of_a_chat_are_read_once_for_all_items_of_a_subject(multiturn: bool) -> None:
    data, tokenizer = benchmark_data(), tokenizer_with_chat()
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": multiturn}
    asked = TaskItems(task="mmlu_anatomy", num_fewshot=5, stop=6, **chat)
    task = prepared(asked, max_length=2048, data=data, tokenizer=tokenizer)
    windows = tokenize_requests([r for document in task.documents for r in document.requests()], tokenizer, 2048)
    assert unfolded(task) == {number: list(own) for number, own in enumerate(windows)}
    (group,) = task.prefix_groups
    shared = tokenizer.decode(group.prefix)
    assert shared.startswith("<|im_start|>system") and shared.count("Answer:") == 5
    plain = prepared(TaskItems(task="mmlu_anatomy", num_fewshot=5, stop=6), max_length=2048, data=data)
    assert len(group.prefix) >= len(plain.prefix_groups[0].prefix)


def batch_lengths(task: PreparedTask) -> list[int]:
    return [len(batch.packed.tokens) for group in task.prefix_groups for batch in group.batches]


def test_no_batch_is_longer_than_asked() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=60))
    assert max(batch_lengths(task)) <= 400
    assert sum(batch_lengths(task)) + sum(len(group.prefix) for group in task.prefix_groups) == task.tokens


def test_a_task_can_be_split_into_batches_of_half_the_length() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=60))
    half = task.halved()
    assert max(batch_lengths(half)) <= 200
    assert unfolded(half) == unfolded(task) and half.digest == task.digest


def test_an_item_longer_than_a_batch_has_a_batch_of_its_own() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=5), batch_tokens=3)
    assert len(batch_lengths(task)) == 5


def test_the_right_choices_are_those_of_the_data() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=60))
    for document, golds in zip(task.documents, task.golds, strict=True):
        (gold,) = golds
        assert document.doc["choices"]["label"][gold] == document.doc["answerKey"]


def test_the_right_choices_of_every_benchmark_are_those_that_lm_eval_counts_as_right() -> None:
    data = benchmark_data()
    for name in ("arc_challenge", "winogrande", "truthfulqa_mc1", "mmlu_anatomy"):
        task = prepared(TaskItems(task=name, stop=20), data=data)
        for document, golds, choices in zip(task.documents, task.golds, task.choices, strict=True):
            for choice in range(len(choices)):
                answers = [(0.0 if other == choice else -9.0, False) for other in range(len(choices))]
                assert document.task.process_results(document.doc, answers)["acc"] == (choice in golds)


def test_the_digest_changes_with_the_items_and_their_answers_only() -> None:
    asked = TaskItems(task="plain_facts", stop=10)
    assert prepared(asked).digest == prepared(asked, batch_tokens=50).digest
    assert prepared(asked).digest != prepared(TaskItems(task="plain_facts", start=1, stop=11)).digest
    assert prepared(asked).digest != prepared(TaskItems(task="plain_facts", num_fewshot=1, stop=10)).digest


def test_inputs_end_before_the_last_target_and_are_cut_on_the_left() -> None:
    (document,) = load_items(TaskItems(task="plain_facts", stop=1), None).documents
    requests, tokenizer = document.requests(), tiny_tokenizer()
    for request, (whole,), (cut,) in zip(
        requests, tokenize_requests(requests, tokenizer, 500), tokenize_requests(requests, tokenizer, 6), strict=True
    ):
        assert tokenizer.decode([*whole.inputs, whole.targets[-1]]) == "".join(request.args)
        assert tokenizer.decode(whole.targets) == request.args[1]
        assert cut.inputs == whole.inputs[-6:]
        assert cut.targets == whole.targets


def test_every_token_of_a_text_is_scored_once_in_windows_as_long_as_the_model_reads() -> None:
    text = "Ice is made of water, and so is steam."
    tokens = tuple(tiny_tokenizer().encode(text))
    (windows,) = tokenize_requests([Instance("loglikelihood_rolling", {}, (text,), 0)], tiny_tokenizer(), 8)
    assert len(windows) > 1 and all(len(window.inputs) == 8 for window in windows)
    assert sum((window.targets for window in windows), ()) == tokens
    assert windows[0].inputs == (0, *tokens[:7]) and windows[1].inputs[0] == tokens[7]


def test_an_empty_text_has_no_windows() -> None:
    assert tokenize_requests([Instance("loglikelihood_rolling", {}, ("",), 0)], tiny_tokenizer(), 8) == [()]


def test_a_prompt_of_spaces_is_refused_unless_the_tokenizer_begins_with_bos() -> None:
    request = Instance("loglikelihood", {}, ("  ", "water"), 0, metadata=("own", 7, 1))
    with pytest.raises(UserError, match=r"tasks\.own: item 7 has a prompt of spaces") as refusal:
        tokenize_requests([request], tiny_tokenizer(), 8)
    assert "\n" not in str(refusal.value)
    ((window,),) = tokenize_requests([request], tokenizer_with_bos(), 8)
    assert window.inputs[0] == 0


def test_a_tokenizer_without_bos_and_eos_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer)
    with pytest.raises(UserError, match=r"no BOS and no EOS token; name one in tokenizer_config\.json"):
        tokenize_requests([], tokenizer, 8)


def test_a_choice_longer_than_the_model_can_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"tasks\.plain_facts: item \d+ has an empty choice or one longer") as refusal:
        prepared(TaskItems(task="plain_facts", stop=10), max_length=1)
    assert "\n" not in str(refusal.value)


def test_a_token_beyond_the_embeddings_is_refused_before_anything_is_computed() -> None:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.add_tokens(["Question"])
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer) - 1)
    loaded = load_items(TaskItems(task="plain_facts", stop=2), None)
    complaint = rf"the token 'Question' \({len(tokenizer) - 1}\), the network has embeddings of 0 to"
    with pytest.raises(UserError, match=complaint):
        prepare_task("plain_facts", loaded, tokenizer, config, torch.device("cpu"), 400)
