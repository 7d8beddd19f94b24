"""What a checkpoint is known by: every file that is read for it, and digests that are remembered."""

import json
import os
import shutil
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from shared import checkpoint_files
from shared.checkpoint_files import LARGE_BYTES, FileDigests, content_digest, former_digest, has_digest
from shared.digest import digest_file
from shared.supernet.tokenizer import load_tokenizer
from tests.support.checkpoints import write_checkpoint
from tests.support.content import content_of, digest_of
from tests.support.data import ROOT

BASE = ROOT / "tests" / "fixtures" / "base"
HOUR = 3600


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One whose tokenizer lies in files of the older kind."""
    directory = tmp_path / "checkpoint"
    shutil.copytree(BASE, directory)
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
    (directory / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "GPT2Tokenizer"
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "special_tokens_map.json").write_text("{}")
    (directory / "chat_template.jinja").write_text("{{ messages }}")
    (directory / "additional_chat_templates").mkdir()
    (directory / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}")
    return directory


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "additional_chat_templates/rag.jinja",
        "model.safetensors",
    ],
)
def test_every_file_that_is_read_counts(checkpoint: Path, name: str) -> None:
    before = digest_of(checkpoint)
    with (checkpoint / name).open("ab") as file:
        file.write(b" ")
    assert digest_of(checkpoint) != before


def test_changed_merges_give_other_tokens_and_another_digest(checkpoint: Path) -> None:
    before, tokens = digest_of(checkpoint), load_tokenizer(checkpoint)("The capital of France")["input_ids"]
    lines = (checkpoint / "merges.txt").read_text().splitlines()
    (checkpoint / "merges.txt").write_text("\n".join(lines[: len(lines) // 2]))
    assert load_tokenizer(checkpoint)("The capital of France")["input_ids"] != tokens
    assert digest_of(checkpoint) != before


def test_what_isnt_read_doesnt_count(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path, dirs_exist_ok=True)
    before = digest_of(tmp_path)
    for name in ("README.md", "optimizer.pt", "training.jsonl", "supernet.json"):
        (tmp_path / name).write_text("something")
    assert digest_of(tmp_path) == before


def test_the_digest_that_earlier_releases_gave_a_checkpoint_is_still_its_own(checkpoint: Path) -> None:
    files = content_of(checkpoint)
    assert has_digest(files, former_digest(files)) and has_digest(files, content_digest(files))
    assert not has_digest(files, "0" * 32)
    assert former_digest(content_of(BASE)) == "fec6b25d35f0d2adc684dccd9d66d956"


def test_a_checkpoint_is_known_by_what_it_was_called_when_named_chat_templates_did_not_count(checkpoint: Path) -> None:
    files = content_of(checkpoint)
    assert "additional_chat_templates/rag.jinja" in files
    shutil.rmtree(checkpoint / "additional_chat_templates")
    before = digest_of(checkpoint)
    assert has_digest(files, before) and content_digest(files) != before


def test_a_file_that_is_added_is_noticed_wherever_it_counts(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    digest, former = digest_of(tmp_path), former_digest(content_of(tmp_path))
    (tmp_path / "merges.txt").write_text("others")
    assert not has_digest(content_of(tmp_path), digest)
    assert has_digest(content_of(tmp_path), former)  # in which it didn't count


def large(path: Path, byte: bytes = b"x", age: float = HOUR) -> Path:
    """A file whose digest is worth remembering, last changed so many seconds ago."""
    path.write_bytes(byte * LARGE_BYTES)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.fixture
def digests(tmp_path: Path) -> FileDigests:
    return FileDigests(tmp_path / "cache")


def reads(digests: FileDigests, file: Path) -> bool:
    """Whether the file is read for its digest, which is right in any case."""
    with patch.object(checkpoint_files, "digest_file", side_effect=digest_file) as read:
        assert digests.of(file) == digest_file(file)
    return bool(read.called)


def test_a_large_file_is_read_once_by_all_processes(digests: FileDigests, tmp_path: Path) -> None:
    file = large(tmp_path / "weights")
    assert reads(digests, file)
    assert not reads(digests, file)
    assert not reads(FileDigests(tmp_path / "cache"), file)


def test_a_file_that_changed_was_moved_or_replaced_is_read_again(digests: FileDigests, tmp_path: Path) -> None:
    file = large(tmp_path / "weights")
    digests.of(file)
    os.utime(file, (1, 1))
    assert reads(digests, file)
    large(tmp_path / "other", b"y").replace(file)  # as long, and as old
    os.utime(file, (1, 1))
    assert reads(digests, file)
    file.rename(tmp_path / "moved")
    assert reads(digests, tmp_path / "moved")


def test_a_file_that_may_just_be_changing_is_not_remembered(digests: FileDigests, tmp_path: Path) -> None:
    file = large(tmp_path / "weights", age=0)
    assert reads(digests, file)
    assert reads(digests, file)


def test_what_is_known_can_be_noted_and_small_files_never_are(digests: FileDigests, tmp_path: Path) -> None:
    file, small = large(tmp_path / "weights", age=0), tmp_path / "small"
    small.write_text("text")
    for each in (file, small):
        digests.remember(each, digest_file(each))
    assert not reads(digests, file) and reads(digests, small)
    assert len(list((tmp_path / "cache" / "digests").iterdir())) == 1


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"digest": 1}'])
def test_a_damaged_note_is_no_note(digests: FileDigests, tmp_path: Path, damage: str) -> None:
    file = large(tmp_path / "weights")
    digests.of(file)
    (note,) = (tmp_path / "cache" / "digests").iterdir()
    note.write_text(damage)
    assert reads(digests, file)


def test_where_nothing_can_be_noted_the_digest_is_right_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert reads(FileDigests(tmp_path / "cache"), large(tmp_path / "weights"))
