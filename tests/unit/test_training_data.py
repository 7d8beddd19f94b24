"""Instruction data: what rows say, which are left out, and what is said of those."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.trainer.data import Instructions, load_instructions
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
    ("found", "remedy"),
    [
        ({"conversations": [{"from": "human", "value": "Hi"}]}, "it looks like ShareGPT's"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "it looks like chats"),
        ({"instruction": "a", "context": "", "response": "b"}, "it has Dolly's names: rename response to output"),
        ({"prompt": "a", "completion": "b"}, "rename prompt to instruction, and completion to output"),
        ({"text": "a"}, "name another file"),
    ],
)
def test_other_formats_are_named_with_what_makes_them_alpaca_s(
    tmp_path: Path, found: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(UserError, match=rf"no row with an instruction and an output; {remedy}") as refusal:
        loaded(tmp_path, found, found)
    assert "\n" not in str(refusal.value)


def test_a_home_directory_of_an_unknown_user_is_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match="'~nobody-here/data' is neither"):
        load_instructions("~nobody-here/data", NOWHERE)
