"""Instruction data: what rows say, which are left out, and what is said of those."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from services.trainer.data import Instructions, hub_dataset, load_instructions
from shared.environment import Environment
from shared.errors import UserError
from tests.support.data import benchmark_data

NOWHERE = Environment(data=None, cache=Path("none"), threads=1)


def loaded(directory: Path, *rows: Any) -> Instructions:
    """The data of a file with these rows, of which an empty line is the first."""
    file = directory / "data.jsonl"
    file.write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_instructions(str(file), NOWHERE)


def row(**fields: Any) -> dict[str, Any]:
    return {"instruction": "Say it.", "input": "", "output": "It.", **fields}


@pytest.mark.parametrize("fields", [{"input": None}, {"input": ""}, {}])
def test_no_input_is_an_empty_one_however_that_is_said(tmp_path: Path, fields: dict[str, Any]) -> None:
    found = loaded(tmp_path, {"instruction": "Say it.", "output": "It.", **fields})
    assert found.rows == (row(),)
    assert found.left_out == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0, "0.0"), (-3, "-3"), (2.5, "2.5"), (10**20, "1" + 20 * "0"), (False, "false"), (True, "true")],
)
@pytest.mark.parametrize("field", ["instruction", "input", "output"])
def test_a_number_or_a_boolean_is_its_text(tmp_path: Path, field: str, value: object, text: str) -> None:
    found = loaded(tmp_path, row(**{field: value}))
    assert found.rows == (row(**{field: text}),)
    assert found.left_out == ""


@pytest.mark.parametrize("field", ["instruction", "output"])
@pytest.mark.parametrize("value", ["", None, ...])
def test_a_row_without_instruction_or_output_is_left_out(tmp_path: Path, field: str, value: object) -> None:
    bad = {name: content for name, content in row(**{field: value}).items() if content is not ...}
    found = loaded(tmp_path, bad, row())
    assert found.rows == (row(),)
    assert found.left_out == f"1 row left out: 1 without an {field}; first: {tmp_path / 'data.jsonl'}:2"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["x"], "a list"),
        ([], "a list"),
        ({"text": "x"}, "an object"),
        ({}, "an object"),
        (float("nan"), "not a finite number"),
        (float("-inf"), "not a finite number"),
        ("\ud800", "not valid Unicode"),
    ],
)
@pytest.mark.parametrize("field", ["instruction", "input", "output"])
def test_what_is_no_text_is_left_out(tmp_path: Path, field: str, value: object, reason: str) -> None:
    found = loaded(tmp_path, row(), row(**{field: value}))
    assert found.rows == (row(),)
    assert found.left_out == f"1 row left out: 1 whose {field} is {reason}; first: {tmp_path / 'data.jsonl'}:3"


def test_rows_that_are_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    bad = [row(output=["x"]), *[row(output=None)] * 2, *[row(output=[])] * 8]
    found = loaded(tmp_path, row(), *bad, row(output=1))
    assert [kept["output"] for kept in found.rows] == ["It.", "1"]
    assert found.left_out == (
        f"11 rows left out: 9 whose output is a list, 2 without an output; first: {tmp_path / 'data.jsonl'}:3"
    )


def test_data_of_which_nothing_is_left_are_refused_with_the_reasons(tmp_path: Path) -> None:
    complaint = (
        r"data\.jsonl has no row .*; name another file \(2 rows left out: 1 whose output is an object, 1 without"
    )
    with pytest.raises(UserError, match=complaint) as refusal:
        loaded(tmp_path, row(output={}), {"input": "x"})
    assert "\n" not in str(refusal.value)


def test_unknown_fields_are_not_part_of_the_data(tmp_path: Path) -> None:
    assert loaded(tmp_path, row(source=["a", "b"])).digest == loaded(tmp_path, row()).digest


def test_the_digest_of_data_stays_what_it_was(tmp_path: Path) -> None:
    """It identifies super-networks that were made by earlier releases."""
    rows = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"instruction": "Say hello.", "input": "", "output": "Héllo\n"},
        {"output": 4, "instruction": "Double 2.", "input": "", "note": [1]},
    ]
    assert loaded(tmp_path, *rows).digest == "16e1257d741c8edbf777a256cab9928a"
    assert load_instructions("plain_facts", NOWHERE).digest == "79f1c03dac1ff9c3bf3d296ba3f0d9cc"


def test_alpaca_is_read_from_the_data_directory() -> None:
    data = benchmark_data()
    found = load_instructions("alpaca", Environment(data=data, cache=data, threads=1))
    assert found.origin == f"Alpaca from {data / 'alpaca'}"
    assert 17_000 < len(found.rows) <= 17_387
    assert all(row["output"] for row in found.rows)
    assert found.left_out.startswith(f"{17_387 - len(found.rows)} rows left out: ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-marked"])
@pytest.mark.parametrize("array", [True, False])
def test_an_array_is_as_good_as_lines_in_whatever_encoding_it_is(tmp_path: Path, encoding: str, array: bool) -> None:
    rows = [row(output="naïve"), {"instruction": "Say it.", "output": "It."}]
    text = json.dumps(rows, indent=1, ensure_ascii=False) if array else "\n".join(map(json.dumps, rows))
    file = tmp_path / "data.json"
    marked = encoding.endswith("-marked")
    file.write_bytes(("\ufeff" * marked + text).encode(encoding.removesuffix("-marked")))
    assert load_instructions(str(file), NOWHERE).rows == (row(output="naïve"), row())


def test_a_bad_row_of_an_array_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps([row(), row(output=[])]), encoding="utf-8")
    assert load_instructions(str(file), NOWHERE).left_out.endswith(f"first: {file} row 2")
    file.write_text(json.dumps([row(), 3]), encoding="utf-8")
    with pytest.raises(UserError, match=r"data\.json row 2: not a JSON object; fix or remove the line"):
        load_instructions(str(file), NOWHERE)


@pytest.mark.parametrize(
    ("found", "fields", "remedy"),
    [
        (
            {"instruction": "a", "context": "", "response": "b"},
            "instruction, context, response",
            "it has Dolly's names",
        ),
        ({"prompt": "a", "completion": "b"}, "prompt, completion", "rename prompt to instruction, and completion to"),
        ({"story": "a"}, "story", "rename them"),
        ({}, "none", "rename them"),
    ],
)
def test_rows_of_no_format_are_refused_by_place_and_fields_with_what_gives_them_one(
    tmp_path: Path, found: dict[str, Any], fields: str, remedy: str
) -> None:
    complaint = rf"training\.data: .*data\.jsonl:2 has the fields {fields}, not instruction and output or .*; {remedy}"
    with pytest.raises(UserError, match=complaint) as refusal:
        loaded(tmp_path, found, found)
    assert "\n" not in str(refusal.value)


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def turn(speaker: str, value: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value}


CHAT = [say("system", "Be short."), say("user", "Hi"), say("assistant", "Ho")]
TURNS = [turn("system", "Be short."), turn("human", "Hi"), turn("gpt", "Ho")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        {"messages": CHAT, "prompt": "Hi", "source": ["x"]},
        {"messages": [{**message, "name": None} for message in CHAT]},
        {"messages": [*CHAT, say("user", "What?"), say("user", "Are you there?")]},
        {"conversations": TURNS},
        {"conversations": CHAT, "id": 3},
        {"messages": None, "conversations": TURNS},
        {"messages": CHAT, "text": "the same again"},
    ],
)
def test_a_conversation_is_its_messages_up_to_the_last_answer_whatever_it_is_called(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    found = loaded(tmp_path, row)
    assert found.rows == ({"messages": CHAT},) and found.left_out == ""


def test_a_plain_text_is_taken_as_it_is(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"text": " One.\n", "url": "x"}, {"text": " \n"}, {"text": 3}, {"text": None})
    assert found.rows == ({"text": " One.\n"}, {"text": "3"})
    assert found.left_out == f"2 rows left out: 2 without a text; first: {tmp_path / 'data.jsonl'}:3"


def test_of_alpaca_s_own_rows_the_text_that_repeats_them_is_no_part(tmp_path: Path) -> None:
    assert loaded(tmp_path, row(output=None, text="a"), row(text="b")).rows == (row(),)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"messages": []}, "without messages"),
        ({"messages": "Hi"}, "whose messages are no list"),
        ({"messages": ["Hi"]}, "with messages that are no objects"),
        ({"messages": [{"content": "Hi"}]}, "with messages without role"),
        ({"messages": [say("user", None), *CHAT]}, "with messages without content"),
        ({"messages": [say("user", ["Hi"]), *CHAT]}, "whose content is a list"),
        ({"messages": [say("user", "\ud800"), *CHAT]}, "whose content is not valid Unicode"),
        ({"messages": [say(["user"], "Hi"), *CHAT]}, "whose role is a list"),
        ({"messages": CHAT[:2]}, "without an answer of the assistant"),
        ({"messages": [*CHAT[:2], say("assistant", "")]}, "with an empty answer of the assistant"),
        ({"messages": [*CHAT, say("assistant", None, tool_calls=[{"id": 1}])]}, "with tool calls"),
        ({"messages": [turn("function_call", "{}"), *CHAT]}, "with messages from 'function_call'"),
    ],
)
def test_a_conversation_that_can_not_be_learnt_is_left_out_with_the_reason(
    tmp_path: Path, bad: dict[str, Any], reason: str
) -> None:
    found = loaded(tmp_path, {"messages": CHAT}, bad)
    assert found.rows == ({"messages": CHAT},)
    assert found.left_out == f"1 row left out: 1 {reason}; first: {tmp_path / 'data.jsonl'}:3"


def test_data_of_several_formats_are_refused_by_the_first_row_that_differs(tmp_path: Path) -> None:
    complaint = (
        r"training\.data: .*data\.jsonl:4 has messages, but other rows have an instruction and an output; give all rows"
    )
    with pytest.raises(UserError, match=complaint) as refusal:
        loaded(tmp_path, row(), {"input": "x"}, {"messages": CHAT}, {"text": "a"})
    assert "\n" not in str(refusal.value)


def test_conversations_in_a_table_are_read_like_those_in_lines(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,messages\n1," + json.dumps(json.dumps(CHAT)).replace('\\"', '""') + "\n")
    found = load_instructions(str(tmp_path / "data.csv"), NOWHERE)
    Dataset.from_list([{"messages": CHAT}]).to_parquet(tmp_path / "data.parquet")
    assert found.rows == load_instructions(str(tmp_path / "data.parquet"), NOWHERE).rows == ({"messages": CHAT},)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("someone/chats", "chats/train.jsonl"),
        ("someone/chats/small", "chats/small/train.jsonl"),
        ("someone/chats/small", "chats/train.jsonl"),
        ("someone/chats:good", "chats/good.jsonl"),
    ],
)
def test_a_data_set_of_the_hub_is_looked_for_where_tasks_data_lie(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(json.dumps({"messages": CHAT}), encoding="utf-8")
    found = load_instructions(name, Environment(data=tmp_path, cache=tmp_path, threads=1))
    assert found.rows == ({"messages": CHAT},) and found.origin == f"{name} from {tmp_path / file}"
    assert hub_dataset(name, found.origin) == "someone/chats"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("someone/chats", ("someone/chats", None, "train")),
        ("someone/chats:test[:10%]", ("someone/chats", None, "test[:10%]")),
        ("someone/chats/small:good", ("someone/chats", "small", "good")),
        ("alpaca", ("tatsu-lab/alpaca", None, "train")),
        ("tatsu-lab/alpaca", ("tatsu-lab/alpaca", None, "train")),
    ],
)
def test_a_data_set_of_the_hub_is_fetched_by_its_name_configuration_and_split(
    monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str | None, str]
) -> None:
    def load(dataset: str, config: str | None, split: str) -> list[dict[str, Any]]:
        assert (dataset, config, split) == asked
        return [row(), row(output="")]

    monkeypatch.setattr("datasets.load_dataset", load)
    found = load_instructions(name, NOWHERE)
    assert found.rows == (row(),) and found.origin.endswith("from the hub")
    assert found.left_out.endswith(f"first: {asked[0]} row 2")
    assert hub_dataset(name, found.origin) == asked[0]


@pytest.mark.parametrize("name", ["someone/chats", "someone/chats/small:train"])
def test_without_the_hub_a_data_set_of_it_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        UserError, match=rf"training\.data: '{name}' is neither a file, nor in NASFARM_DATA, nor"
    ) as said:
        load_instructions(name, Environment(data=tmp_path, cache=tmp_path, threads=1))
    assert "\n" not in str(said.value) and "name a file" in str(said.value)


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "data/rows.jsonl", "data/rows.json.gz", "./data/rows", "/data/rows", "rows"]
)
def test_a_file_that_is_not_there_is_not_looked_for_at_the_hub(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UserError, match="is neither 'alpaca', 'plain_facts', a file nor a data set of the hub"):
        load_instructions(name, NOWHERE)


def test_a_file_without_an_ending_is_no_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows").write_text(json.dumps(row()), encoding="utf-8")
    found = load_instructions("data/rows", NOWHERE)
    assert found.rows == (row(),) and hub_dataset("data/rows", found.origin) is None


def test_a_home_directory_of_an_unknown_user_is_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match="'~nobody-here/data' is neither"):
        load_instructions("~nobody-here/data", NOWHERE)
