"""Histories of earlier releases, made into what this one writes; nothing that was measured is lost."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shared.architecture import derive
from shared.identity import SEARCH
from shared.messages import EvaluationRequest, of_earlier_releases
from shared.network.shape import AttentionShape, LayerShape, MlpShape, NetworkShape
from shared.network.sizes import weight_bytes
from shared.settings import parse_settings

FORMAT = 6
TABLES = ("about", "candidates", "measurements", "generations")
APPEND_ONLY = (
    """create trigger {table}_{action} before {action} on {table} begin select raise(abort, 'append only'); end"""
)
MEASUREMENTS = """create table measurements (
    sequence integer primary key, identity text not null, request text not null, outcome text not null,
    kind text not null, received text not null
) strict"""
"""`kind` is the outcome's own: `measurement`, or a kind of failure."""
MEASUREMENTS_INDEX = "create index measurements_by_identity on measurements (identity, kind)"
KNOWN = "known integer"
"""Of candidates: the last of `measurements` that the strategy knew of, in a search where that depends on when what was
measured came; null in one that proceeds in generations."""
CANDIDATES_INDEX = "create index if not exists candidates_by_generation on candidates (generation)"
IN_RECIPE = ("supernet", "base", "dtype", "drop_order", "reference_point")
"""What stands in the recipe besides the settings; up to format 2 each by itself."""


def format_of(connection: sqlite3.Connection) -> int | None:
    """The format of a history; None if it has none that we know how to read."""
    row = connection.execute("select value from about where key = 'format'").fetchone()
    text = json.loads(row[0]) if row else None
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a history of an earlier format to this one, in the transaction that is open."""
    steps: dict[int, Callable[[sqlite3.Connection], None]] = {
        1: _from_format_1,
        2: _from_format_2,
        3: _from_format_3,
        4: _from_format_4,
        5: _from_format_5,
    }
    with _changeable(connection):
        for number in range(format_of(connection) or FORMAT, FORMAT):
            steps[number](connection)
        connection.execute("update about set value = ? where key = 'format'", (json.dumps(str(FORMAT)),))


def forbid_changes(connection: sqlite3.Connection) -> None:
    """Have the database itself refuse to change or delete what was written."""
    for table in TABLES:
        for action in ("delete", "update"):
            connection.execute(APPEND_ONLY.format(table=table, action=action))


@contextmanager
def _changeable(connection: sqlite3.Connection) -> Iterator[None]:
    for table in TABLES:
        for action in ("delete", "update"):
            connection.execute(f"drop trigger {table}_{action}")
    yield
    forbid_changes(connection)


def _from_format_1(connection: sqlite3.Connection) -> None:
    """Measurements had no size in bytes and no values of lm-eval's, requests no speed and no INT8; digests of items
    were made in another way, so that they can't be compared any more."""
    about = _about(connection)
    settings = parse_settings(about["settings"], "the history").model_dump(mode="json")
    connection.execute("update about set value = ? where key = 'settings'", (json.dumps(settings),))
    network, new_identities = _uniform(about["shape"]), dict[str, str]()
    rows = connection.execute("select sequence, identity, request, outcome, kind from measurements").fetchall()
    for sequence, identity, request_text, outcome_text, kind in rows:
        request = EvaluationRequest.model_validate_json(request_text)
        outcome = json.loads(outcome_text)
        if kind == "measurement":
            outcome["bytes"] = weight_bytes(derive(network, request.architecture), request.spec.dtype, "none")
            for scores in outcome["scores"]:
                scores["values"] = {name: sum(each) / len(each) for name, each in scores["metrics"].items()}
                scores["items_digest"] = ""
        new_identities[identity] = request.identity
        connection.execute(
            "update measurements set identity = ?, request = ?, outcome = ? where sequence = ?",
            (request.identity, request.model_dump_json(), json.dumps(outcome), sequence),
        )
    for former, identity in new_identities.items():
        connection.execute("update candidates set identity = ? where identity = ?", (identity, former))


def _from_format_2(connection: sqlite3.Connection) -> None:
    """What a history belongs to was all of its settings; now it is a recipe of those that count. There was one
    measurement of each network and no room for a valid one beside one that isn't."""
    connection.execute(CANDIDATES_INDEX)
    connection.execute("alter table measurements rename to former")
    connection.execute(MEASUREMENTS)
    connection.execute("insert into measurements select * from former")
    connection.execute("drop table former")
    connection.execute(MEASUREMENTS_INDEX)
    about = _about(connection)
    recipe = {**SEARCH.of(about["settings"]), **{key: about[key] for key in IN_RECIPE}}
    connection.execute("insert into about values ('recipe', ?)", (json.dumps(recipe),))


def _from_format_3(connection: sqlite3.Connection) -> None:
    """All layers of a model were alike, and said once."""
    network = _uniform(_about(connection)["shape"])
    connection.execute("insert into about values ('network', ?)", (json.dumps(network.to_json()),))


def _from_format_4(connection: sqlite3.Connection) -> None:
    """Requests, outcomes and speeds didn't say their kind, and a failure's kind meant one of two things; the column of
    that name distinguished measurements from failures and nothing more."""
    connection.execute("alter table measurements rename to former")
    connection.execute(MEASUREMENTS)
    rows = connection.execute("select sequence, identity, request, outcome, received from former order by sequence")
    for sequence, identity, request, text, received in rows:
        outcome = of_earlier_releases(json.loads(text))
        if outcome["kind"] == "measurement":
            outcome["speed"] = of_earlier_releases(outcome.get("speed"))
            outcome["speeds"] = [of_earlier_releases(speed) for speed in outcome.get("speeds", ())]
        asked = json.dumps(of_earlier_releases(json.loads(request)))
        values = (sequence, identity, asked, json.dumps(outcome), outcome["kind"], received)
        connection.execute("insert into measurements values (?, ?, ?, ?, ?, ?)", values)
    connection.execute("drop table former")
    connection.execute(MEASUREMENTS_INDEX)


def _from_format_5(connection: sqlite3.Connection) -> None:
    """All searches proceeded in generations: what was known when one was asked for needed no words."""
    connection.execute(f"alter table candidates add column {KNOWN}")


def _uniform(shape: dict[str, Any]) -> NetworkShape:
    """A network of layers that are alike, as formats up to 3 describe it. What sizes don't depend on wasn't said."""
    attention = AttentionShape(
        heads=shape["heads"],
        kv_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        qkv_bias=shape["qkv_bias"],
        output_bias=shape["output_bias"],
        qk_norm=shape["qk_norm"],
    )
    layer = LayerShape(shape["hidden_size"], attention, MlpShape(width=shape["mlp_width"], bias=shape["mlp_bias"]))
    return NetworkShape(
        family=shape["family"],
        vocab_size=shape["vocab_size"],
        layers=(layer,) * shape["layers"],
        tied_embeddings=shape["tied_embeddings"],
    )


def _about(connection: sqlite3.Connection) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in connection.execute("select key, value from about")}
