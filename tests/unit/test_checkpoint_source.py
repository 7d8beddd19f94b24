"""Checkpoints that are fetched: once, verified, whole or not at all."""

import logging
import os
import shutil
import sys
from pathlib import Path

import fsspec
import pytest

from shared.errors import UserError
from shared.manifest import SupernetManifest
from shared.supernet.source import fetch_checkpoint, remote
from tests.support.content import digest_of
from tests.support.disk import nearly_full_disk
from tests.support.supernets import write_supernet


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def supernet(tmp_path: Path) -> Path:
    write_supernet(tmp_path / "there")
    return tmp_path / "there"


def copies(cache: Path) -> list[str]:
    """What is in the cache but for the locks."""
    return sorted(path.name for path in (cache / "checkpoints").iterdir() if path.suffix != ".lock")


def test_a_directory_is_used_as_it_is(supernet: Path, cache: Path) -> None:
    assert fetch_checkpoint(str(supernet), None, cache) == supernet
    assert not cache.exists()


def test_only_the_files_of_a_checkpoint_are_fetched_under_the_digest_that_its_manifest_states(
    supernet: Path, cache: Path
) -> None:
    for name in ("optimizer.pt", "README.md", "original/model.safetensors"):
        (supernet / name).parent.mkdir(exist_ok=True)
        (supernet / name).write_text("not needed")
    (supernet / "generation_config.json").write_text("{}")
    digest = SupernetManifest.read(supernet).digest
    fetched = fetch_checkpoint(supernet.as_uri(), None, cache)
    assert fetched == cache / "checkpoints" / digest
    expected = {"config.json", "generation_config.json", "model.safetensors", "supernet.json", "tokenizer.json"}
    assert {path.name for path in fetched.iterdir()} == expected
    assert (fetched / "model.safetensors").read_bytes() == (supernet / "model.safetensors").read_bytes()
    assert copies(cache) == [digest]


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_chat_templates_that_have_names_are_fetched_too(supernet: Path, cache: Path, scheme: str) -> None:
    templates = supernet / "additional_chat_templates"
    templates.mkdir()
    (templates / "rag.jinja").write_text("{{ documents }}")
    (templates / "notes.txt").write_text("not needed")
    location = supernet.as_uri()
    if scheme == "memory":
        location = "memory://templated"
        fsspec.filesystem("memory").put(f"{supernet}/", "/templated", recursive=True)
    fetched = fetch_checkpoint(location, digest_of(supernet), cache)
    assert digest_of(fetched) == digest_of(supernet)
    assert [path.name for path in (fetched / "additional_chat_templates").iterdir()] == ["rag.jinja"]


def test_refitted_projections_are_fetched_too_and_missed_where_they_are_not(
    supernet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (supernet / "refitted").mkdir()
    (supernet / "refitted" / "layer-000.safetensors").write_bytes(b"projections")
    (supernet / "refitted" / "layer-001.unfinished").write_bytes(b"half of them")
    digest = digest_of(supernet)
    fetched = fetch_checkpoint(supernet.as_uri(), digest, cache)
    assert digest_of(fetched) == digest
    assert [path.name for path in (fetched / "refitted").iterdir()] == ["layer-000.safetensors"]
    monkeypatch.setattr(remote, "DIRECTORIES", ())  # as by releases before there were any
    with pytest.raises(UserError, match="not the checkpoint that was asked for"):
        fetch_checkpoint(supernet.as_uri(), digest, cache.with_name("other"))


def test_with_a_digest_what_was_fetched_is_used_without_looking_at_the_url(supernet: Path, cache: Path) -> None:
    fetched = fetch_checkpoint(supernet.as_uri(), None, cache)
    shutil.rmtree(supernet)
    assert fetch_checkpoint(supernet.as_uri(), fetched.name, cache) == fetched
    (fetched / "config.json").touch()  # as after copying the cache: it is read once more
    assert fetch_checkpoint(supernet.as_uri(), fetched.name, cache) == fetched


def test_the_log_tells_how_far_a_large_checkpoint_has_got(
    supernet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote, "PROGRESS_SECONDS", 0)
    memory = fsspec.filesystem("memory")
    memory.put(str(supernet), "/net", recursive=True)
    with caplog.at_level(logging.INFO):
        fetch_checkpoint("memory://net", None, cache)
    told = [record.nasfarm_fields for record in caplog.records if record.message == "fetching"]
    assert [each["bytes"] for each in told] == sorted(each["bytes"] for each in told)
    assert told[-1]["bytes"] == told[-1]["of"] == sum(path.stat().st_size for path in supernet.iterdir())


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_copy_that_is_damaged_is_fetched_again(supernet: Path, cache: Path, damage: str) -> None:
    fetched = fetch_checkpoint(supernet.as_uri(), None, cache)
    weights = fetched / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    elif damage == "cut":
        os.truncate(weights, 500)
    else:
        weights.write_bytes(bytes(weights.stat().st_size))
    assert fetch_checkpoint(supernet.as_uri(), fetched.name, cache) == fetched
    assert weights.read_bytes() == (supernet / "model.safetensors").read_bytes()
    assert copies(cache) == [fetched.name]


def test_what_is_not_the_checkpoint_that_was_asked_for_is_refused_and_not_kept(supernet: Path, cache: Path) -> None:
    (supernet / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match=r"there: not the checkpoint that was asked for, its digest is not [0-9a-f]+; "):
        fetch_checkpoint(supernet.as_uri(), None, cache)
    assert copies(cache) == []


def test_a_digest_that_would_lead_out_of_the_cache_is_refused(supernet: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"'\.\./\.\./elsewhere' is not a checkpoint's digest"):
        fetch_checkpoint(supernet.as_uri(), "../../elsewhere", cache)
    assert not cache.exists()


def test_a_full_disk_is_reported_beforehand_or_when_it_fills_up(
    supernet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nearly_full_disk(50_000), pytest.raises(UserError, match=r"can't be written \(File too large\); free some"):
        fetch_checkpoint(supernet.as_uri(), None, cache)
    assert copies(cache) == []
    usage = shutil.disk_usage(supernet)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(UserError, match=r"needs 10\d{4} bytes, 100000 are free; make room, or set NASFARM_CACHE"):
        fetch_checkpoint(supernet.as_uri(), None, cache)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///no/such/place", r"^file:///no/such/place: not there \(.*supernet\.json.*\); give the URL of a "),
        ("teapot://cup", r"can't be fetched \(ValueError: Protocol not known: teapot\); check the URL"),
        ("filecache::file:///there", "URLs in URLs are not supported"),
        ("/no/such/directory", "no such directory"),
        ("gs://bucket/key", r"(?s)gcsfs.*pip install 'nasfarm\[cloud\]'"),
    ],
)
def test_what_cant_be_fetched_is_said_in_one_line(
    location: str, message: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as where it is not installed
    with pytest.raises(UserError, match=message) as caught:
        fetch_checkpoint(location, None, cache)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_damaged_is_said_to_be(supernet: Path, cache: Path) -> None:
    (supernet / "supernet.json").write_text('{"version": 1')
    with pytest.raises(UserError, match=r"there/supernet\.json: .*; copy it again"):
        fetch_checkpoint(supernet.as_uri(), None, cache)


def test_who_we_are_to_a_server_is_in_no_error(cache: Path) -> None:
    with pytest.raises(UserError) as refused:
        fetch_checkpoint("ftp://somebody:sesame@127.0.0.1:1/net", None, cache)
    assert "127.0.0.1" in str(refused.value)
    assert not any(word in str(refused.value) for word in ("somebody", "sesame"))
