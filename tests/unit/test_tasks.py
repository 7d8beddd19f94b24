"""Tasks by name, their items, and what is said about bad ones."""

import gzip
import json
from dataclasses import replace
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.group import Group
from lm_eval.config.group import AggMetricConfig
from sklearn.metrics import matthews_corrcoef

from services.evaluator.tasks.loading import LoadedTask, count_items, load_items, shuffled
from services.evaluator.tasks.local import wikitext_pages
from shared.errors import UserError
from shared.messages import TaskItems
from shared.rows import located_rows
from shared.settings import PartSettings, TaskSettings
from tests.support.data import benchmark_data
from tests.support.tasks import register

ARC_ROW = {
    "id": "1",
    "question": "What is wet?",
    "choices": {"text": ["water", "sand", "fire"], "label": ["A", "B", "C"]},
    "answerKey": "A",
}


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gsm8k", "gsm8k: its kind is generate_until"),
        ("lambada_openai", "lambada_openai: its kind is loglikelihood"),
        ("truthfulqa", "truthfulqa_gen: its kind is generate_until"),
        ("squadv2", "SQuAD2: its kind is generate_until"),
    ],
)
def test_a_task_that_log_likelihoods_do_not_answer_is_refused_before_its_data_are_fetched(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("fetched"))
    refused(TaskItems(task=name, stop=1), None, rf"tasks\.{kind}; choose a task that is multiple-choice or rolling")


def test_a_task_of_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "pictures", [QUESTION], **CHOICES | {"doc_to_image": "picture"})
    refused(TaskItems(task="pictures", stop=1), None, r"tasks\.pictures: its kind is multimodal; choose a task")


QUESTION = {"question": "What is wet?", "choices": ["water", "sand", "fire"], "gold": 0}
CHOICES: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
}


def registered_items(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], **config: Any) -> LoadedTask:
    register(monkeypatch, "own", rows, **config)
    return load_items(TaskItems(task="own", stop=len(rows)), None)


def test_the_requests_of_a_question_are_its_choices_after_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    (document,) = registered_items(monkeypatch, [QUESTION], **CHOICES).documents
    assert [request.args for request in document.requests()] == [
        ("What is wet?", " water"),
        ("What is wet?", " sand"),
        ("What is wet?", " fire"),
    ]
    assert (document.choices, document.golds(), document.rolling) == (("water", "sand", "fire"), (0,), False)
    assert document.metrics([(-2.0, False), (-1.9, True), (-3.0, False)]) == {"acc": 0, "acc_norm": 1}


def test_mutual_information_asks_for_the_choices_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [{"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}]
    (document,) = registered_items(monkeypatch, [QUESTION], **CHOICES, metric_list=metrics).documents
    assert [request.args[0] for request in document.requests()] == ["What is wet?"] * 3 + [""] * 3
    assert document.choices == ("water", "sand", "fire")
    answers = [(value, False) for value in (-4.0, -3.0, -5.0, -3.0, -1.0, -1.0)]
    assert document.metrics(answers) == {"acc_mutual_info": 1}


def test_a_question_may_have_several_right_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    (document,) = registered_items(monkeypatch, [QUESTION], **CHOICES | {"doc_to_target": "{{[gold, 2]}}"}).documents
    assert document.golds() == (0, 2)


def test_a_right_answer_that_is_no_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = r"tasks\.own: the row .*'gold': 3.* names the right answer 3, which is not one of the 3 choices"
    with pytest.raises(UserError, match=complaint):
        registered_items(monkeypatch, [QUESTION, QUESTION | {"gold": 3}], **CHOICES)


def test_a_task_with_a_metric_of_its_own_names_no_right_choice() -> None:
    loaded = load_items(TaskItems(task="truthfulqa_mc2", stop=3), benchmark_data())
    document = loaded.documents[0]
    labels = document.doc["mc2_targets"]["labels"]
    assert document.golds() == () and len(document.choices) == len(labels) == len(document.requests())
    certain = [(0.0 if label else -99.0, False) for label in labels]
    assert document.metrics(certain)["acc"] == pytest.approx(1)


def test_values_are_lm_evals_aggregates(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "mcc", "aggregation": "matthews_corrcoef", "higher_is_better": True},
    ]
    rows = [QUESTION | {"gold": gold} for gold in (0, 0, 1, 1)]
    loaded = registered_items(monkeypatch, rows, **CHOICES, metric_list=metrics)
    chosen = [document.doc["gold"] if number else 2 for number, document in enumerate(loaded.documents)]
    per_item = [
        document.metrics([(0.0 if choice == own else -9.0, False) for choice in range(3)])
        for document, own in zip(loaded.documents, chosen, strict=True)
    ]
    golds = [document.doc["gold"] for document in loaded.documents]
    assert loaded.values(per_item) == pytest.approx({"acc": 0.75, "mcc": matthews_corrcoef(golds, chosen)})


def _always_first(loaded: LoadedTask) -> list[dict[str, Any]]:
    return [document.metrics([(-1.0, False), *[(-2.0, False)] * 3]) for document in loaded.documents]


@pytest.mark.parametrize("by_size", [True, False])
def test_the_value_of_a_group_is_lm_evals_aggregate_of_its_tasks(by_size: bool) -> None:
    loaded = load_items(TaskItems(task="mmlu_stem", stop=40), benchmark_data())
    assert loaded.by_size == {"acc": True} and loaded.even == ()
    group = Group("stem", aggregate_metric_list=[AggMetricConfig(metric="acc", weight_by_size=by_size)])
    for document in loaded.documents:
        group.add(document.task)
    right: dict[str, list[float]] = {}
    for document in loaded.documents:
        right.setdefault(str(document.task.task_name), []).append(float(document.doc["answer"] == 0))
    tasks = {name: {"acc,none": sum(own) / len(own), "sample_len": len(own)} for name, own in right.items()}
    grouped = replace(loaded, by_size={"acc": by_size})
    assert grouped.even == (() if by_size else ("acc",))
    assert grouped.values(_always_first(loaded)) == pytest.approx({"acc": group.aggregate(tasks)["acc,none"]})
    if by_size:
        assert grouped.values(_always_first(loaded)) == pytest.approx({"acc": sum(map(sum, right.values())) / 40})


def test_the_items_of_a_group_know_their_task_and_those_of_a_task_have_none() -> None:
    group = load_items(TaskItems(task="mmlu_stem", stop=40), benchmark_data())
    names = [str(document.task.task_name) for document in group.documents]
    assert len(group.clusters) == 40 and set(group.clusters) == set(range(len(set(names))))
    assert len(set(zip(names, group.clusters, strict=True))) == len(set(names))
    alone = load_items(TaskItems(task="mmlu_anatomy", stop=10), benchmark_data())
    assert (alone.clusters, alone.even, alone.by_size) == ((), (), {})


TEXTS = [{"text": "Ice is made of water, and so is steam."}, {"text": "Bees"}]
ROLLING = {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"}


def test_a_text_is_one_request_and_has_no_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = registered_items(monkeypatch, TEXTS, **ROLLING)
    texts = [document.doc["text"] for document in loaded.documents]
    assert [[request.args for request in document.requests()] for document in loaded.documents] == [
        [(text,)] for text in texts
    ]
    assert [(document.choices, document.golds(), document.rolling) for document in loaded.documents] == [
        ((), (), True),
        ((), (), True),
    ]
    values = loaded.values([document.metrics([(-4.0, False)]) for document in loaded.documents])
    letters, words = sum(map(len, texts)), sum(len(text.split()) for text in texts)
    assert values == pytest.approx(
        {
            "word_perplexity": exp(8 / words),
            "byte_perplexity": exp(8 / letters),
            "bits_per_byte": 8 / letters / log(2),
        }
    )


def test_the_articles_of_wikitext_are_whole_and_as_many_as_the_hub_has() -> None:
    data = benchmark_data()
    assert (count_items("wikitext", None, data), count_items("wikitext", "validation", data)) == (62, 60)
    loaded = load_items(TaskItems(task="wikitext", stop=62), data)
    assert loaded.origin == f"EleutherAI/wikitext_document_level from {data / 'wikitext2'}"
    pages = {document.index: document.doc["page"] for document in loaded.documents}
    assert pages[0].startswith(" = Robert Boulter = \n \n Robert Boulter is an English film")
    raw = "".join(row["text"] or " \n" for _, row in located_rows(data / "wikitext2" / "test.jsonl.gz"))
    assert " \n" + "\n".join(pages[index] for index in range(62)) == raw


def test_a_page_begins_at_a_heading_of_the_first_level() -> None:
    lines = ["", " = One = \n", "", " = = Part = = \n", " Some text . \n", "", " = Two = \n", " x = y \n"]
    assert [page["page"].split("\n")[0] for page in wikitext_pages([{"text": line} for line in lines])] == [
        " = One = ",
        " = Two = ",
    ]


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
        (b"", r"test\.jsonl: has no rows; fetch the file again"),
        (b"\n \n", r"test\.jsonl: has no rows; fetch the file again"),
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
