"""Tasks by name, their items, and what is said about bad ones."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from services.evaluator.preparation import ItemTree, PreparedTask, fold, prepare_task
from services.evaluator.tasks.loading import LoadedTask, count_items, load_items, shuffled
from services.evaluator.tokenisation import Continuation, tokenize_requests
from shared.errors import UserError
from shared.messages import TaskItems
from shared.settings import PartSettings, TaskSettings
from tests.support.checkpoints import tiny_tokenizer
from tests.support.data import benchmark_data

ARC_ROW = {
    "id": "1",
    "question": "What is wet?",
    "choices": {"text": ["water", "sand", "fire"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}


@st.composite
def items(draw: st.DrawFn) -> list[Continuation]:
    """The continuations of an item, which often have much in common."""
    trunk = draw(st.lists(st.integers(0, 3), max_size=6))
    continuations = []
    for _ in range(draw(st.integers(1, 5))):
        tokens = trunk + draw(st.lists(st.integers(0, 3), min_size=0 if trunk else 1, max_size=5))
        scored = draw(st.integers(1, len(tokens)))
        targets = [*tokens[len(tokens) - scored + 1 :], draw(st.integers(0, 3))]
        continuations.append(Continuation(tuple(tokens), tuple(targets)))
    return continuations


def read_back(tree: ItemTree, number: int) -> Continuation:
    """What a network that obeys the tree sees when it predicts the targets of a continuation."""
    branch = number + 1
    seen = [place for place, own in enumerate(tree.tree.branches) if own in (0, branch)]
    inputs = [tree.tree.tokens[place] for place in seen]
    assert [tree.tree.positions[place] for place in seen] == list(range(len(seen)))
    scored = len(tree.targets[number])
    assert list(tree.places[number]) == seen[len(seen) - scored :]
    return Continuation(tuple(inputs), tree.targets[number])


@given(items())
def test_a_folded_item_unfolds_to_its_continuations(continuations: list[Continuation]) -> None:
    tree = fold(continuations)
    assert [read_back(tree, number) for number in range(len(continuations))] == continuations
    assert len(tree.tree.tokens) == len(tree.tree.positions) == len(tree.tree.branches)


@given(items())
def test_a_folded_item_holds_its_common_beginning_once(continuations: list[Continuation]) -> None:
    inputs = [continuation.inputs for continuation in continuations]
    common = 0
    while all(len(tokens) > common and tokens[common] == inputs[0][common] for tokens in inputs):
        common += 1
    assert len(fold(continuations).tree) == common + sum(len(tokens) - common for tokens in inputs)


def index_part(settings: TaskSettings, part: str, data: Path) -> list[int]:
    return [document.index for document in load_items(settings.part(part), data).documents]  # type: ignore[arg-type]


def test_search_and_report_take_different_items_of_a_split_that_they_share() -> None:
    data = benchmark_data()
    settings = TaskSettings(name="mmlu_anatomy", search=PartSettings(items=40), report=PartSettings(items=95))
    search, report = index_part(settings, "search", data), index_part(settings, "report", data)
    assert len(search) == 40 and len(report) == 95
    assert sorted(search + report) == list(range(135))


def test_search_and_report_take_different_splits_where_a_task_has_two() -> None:
    data = benchmark_data()
    settings = TaskSettings(name="arc_easy", search=PartSettings(items=570), report=PartSettings(items=2376))
    parts = [load_items(settings.part(part), data).documents for part in ("search", "report")]
    searched, reported = ({document.doc["id"] for document in part} for part in parts)
    assert (len(searched), len(reported)) == (570, 2376)
    assert not searched & reported


def test_the_items_order_is_arbitrary_but_always_the_same() -> None:
    assert shuffled(10) == [5, 2, 7, 1, 8, 4, 3, 6, 0, 9]
    assert sorted(shuffled(1000)) == list(range(1000))
    assert shuffled(1000) == shuffled(1000) != sorted(shuffled(1000))


def test_a_range_of_items_is_the_same_whatever_else_is_asked() -> None:
    data = benchmark_data()
    whole = load_items(TaskItems(task="arc_challenge", split="validation", num_fewshot=2, stop=30), data).documents
    part = load_items(
        TaskItems(task="arc_challenge", split="validation", num_fewshot=2, start=10, stop=20), data
    ).documents
    assert [(own.index, own.context) for own in part] == [(own.index, own.context) for own in whole[10:20]]


def test_a_group_of_tasks_counts_as_one_with_all_its_subjects() -> None:
    data = benchmark_data()
    assert count_items("mmlu_stem", None, data) == 3153
    subjects = {
        document.doc["subject"] for document in load_items(TaskItems(task="mmlu_stem", stop=200), data).documents
    }
    assert len(subjects) > 10


@pytest.mark.parametrize(
    ("task", "split", "count"),
    [
        ("arc_easy", None, 2376),
        ("arc_easy", "validation", 570),
        ("arc_challenge", None, 1172),
        ("winogrande", None, 1267),
        ("truthfulqa_mc1", None, 817),
        ("mmlu_anatomy", None, 135),
    ],
)
def test_the_benchmarks_have_their_official_numbers_of_items(task: str, split: str | None, count: int) -> None:
    assert count_items(task, split, benchmark_data()) == count


def test_it_is_said_where_the_data_came_from() -> None:
    data = benchmark_data()
    assert load_items(TaskItems(task="arc_easy", stop=1), data).origin == f"allenai/ai2_arc from {data / 'arc_easy'}"
    assert load_items(TaskItems(task="plain_facts", stop=1), None).origin == "built in"


def refused(asked: TaskItems, data: Path | None, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        load_items(asked, data)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("arc_esay", "lm-eval knows no such task; did you mean .*arc_easy"),
        ("plain_fact", "lm-eval knows no such task; did you mean plain_facts"),
        ("qqqqqqqq", "lm-eval knows no such task; `lm-eval ls tasks` lists those it knows"),
    ],
)
def test_an_unknown_task_is_refused_with_similar_names(name: str, complaint: str) -> None:
    refused(TaskItems(task=name, stop=1), None, rf"tasks\.{name}: {complaint}")


def test_a_task_that_is_not_multiple_choice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    rows = '{"question": "1 + 1?", "answer": "#### 2"}\n'
    for split in ("train", "test"):
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    refused(TaskItems(task="gsm8k", stop=1), tmp_path, r"tasks\.gsm8k: gsm8k is no multiple-choice task")


def test_an_unknown_split_is_refused_with_those_there_are() -> None:
    asked = TaskItems(task="plain_facts", split="dev", stop=1)
    refused(asked, None, r"tasks\.plain_facts: no split 'dev'; it has train, validation, test")


def test_more_items_than_there_are_are_refused_with_their_number() -> None:
    count = count_items("plain_facts", "validation", None)
    asked = TaskItems(task="plain_facts", split="validation", stop=count + 1)
    refused(asked, None, rf"{count + 1} items are asked for of split validation, it has {count}; ask for fewer")


def test_data_that_are_neither_here_nor_on_the_hub_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    refused(
        TaskItems(task="arc_easy", stop=1),
        tmp_path,
        r"tasks\.arc_easy: lm-eval can't load it from NASFARM_DATA",
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"test\.jsonl: holds no rows; fetch the file again"),
        (b"\n \n", r"test\.jsonl: holds no rows; fetch the file again"),
        (json.dumps(ARC_ROW).encode() + b"\n{torn", r"test\.jsonl:2: not JSON"),
        (b"\xff\xfe\n", r"test\.jsonl: can't be read"),
    ],
)
def test_an_empty_or_damaged_data_file_is_refused_by_name(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "arc_easy").mkdir()
    (tmp_path / "arc_easy" / "test.jsonl").write_bytes(content)
    refused(TaskItems(task="arc_easy", split="test", stop=1), tmp_path, complaint)


def test_data_may_be_gzipped(tmp_path: Path) -> None:
    (tmp_path / "arc_easy").mkdir()
    for split in ("train", "validation", "test"):
        with gzip.open(tmp_path / "arc_easy" / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write(json.dumps(ARC_ROW) + "\n")
    (document,) = load_items(TaskItems(task="arc_easy", stop=1), tmp_path).documents
    assert document.doc["question"] == "What is wet?"


def prepared(asked: TaskItems, max_length: int = 500, row_tokens: int = 400, data: Path | None = None) -> PreparedTask:
    config = AutoConfig.for_model("llama", max_position_embeddings=max_length)
    return prepare_task(asked.task, load_items(asked, data), tiny_tokenizer(), config, torch.device("cpu"), row_tokens)


def test_every_item_is_in_one_row_and_no_row_is_longer_than_asked() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=60))
    assert sorted(index for row in task.rows for index in row.items) == list(range(60))
    assert max(len(row.packed.tokens) for row in task.rows) <= 400
    assert sum(len(row.packed.tokens) for row in task.rows) == task.tokens
    assert all(count == 4 for row in task.rows for count in row.continuations)


def test_an_item_longer_than_a_row_has_a_row_of_its_own() -> None:
    task = prepared(TaskItems(task="plain_facts", stop=5), row_tokens=3)
    assert [len(row.items) for row in task.rows] == [1] * 5


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
            for choice in range(choices):
                answers = [(0.0 if other == choice else -9.0, False) for other in range(choices)]
                assert document.task.process_results(document.doc, answers)["acc"] == (choice in golds)


def test_the_digest_changes_with_the_items_and_their_answers_only() -> None:
    asked = TaskItems(task="plain_facts", stop=10)
    assert prepared(asked).digest == prepared(asked, row_tokens=50).digest
    assert prepared(asked).digest != prepared(TaskItems(task="plain_facts", start=1, stop=11)).digest
    assert prepared(asked).digest != prepared(TaskItems(task="plain_facts", num_fewshot=1, stop=10)).digest


def test_inputs_end_before_the_last_target_and_are_cut_on_the_left() -> None:
    loaded: LoadedTask = load_items(TaskItems(task="plain_facts", stop=1), None)
    (document,) = loaded.documents
    requests = document.task.construct_requests(document.doc, document.context, metadata=("plain_facts", 0, 1))
    tokenizer = tiny_tokenizer()
    for request, whole, cut in zip(
        requests, tokenize_requests(requests, tokenizer, 500), tokenize_requests(requests, tokenizer, 6), strict=True
    ):
        assert tokenizer.decode([*whole.inputs, whole.targets[-1]]) == "".join(request.args)
        assert tokenizer.decode(whole.targets) == request.args[1]
        assert cut.inputs == whole.inputs[-6:]
        assert cut.targets == whole.targets


def test_a_choice_longer_than_the_model_can_read_is_refused() -> None:
    with pytest.raises(UserError, match=r"tasks\.plain_facts: item \d+ has an empty choice or one longer") as refusal:
        prepared(TaskItems(task="plain_facts", stop=10), max_length=1)
    assert "\n" not in str(refusal.value)
