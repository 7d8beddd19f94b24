"""What a search needs of memory and disk, and what is there: said in a line, refused by the setting to change."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from services.application.room import Room, SearchNeeds, needs_of_model
from shared import machine_memory
from shared.errors import UserError
from shared.machine_memory import Memory, host_memory
from shared.settings import SearchSettings
from tests.support.tiny_training import tiny_settings
from tests.unit.test_memory_needs import llama2_7b

GB = 10**9
MUCH = Room(Memory(2000 * GB, 1500 * GB), None, Path("supernets/x"), 5000 * GB)


def plain(text: str) -> str:
    """Without the spaces at which no line breaks."""
    return text.replace("\xa0", " ")


def needs(tmp_path: Path, found: Room = MUCH, **training: object) -> SearchNeeds:
    settings: SearchSettings = tiny_settings(tmp_path, **{"tokens_per_step": 16384, **training})
    return needs_of_model(llama2_7b(), settings, "bfloat16", 2, found)


def gpu(gigabytes: int) -> Room:
    return Room(Memory(gigabytes * GB, gigabytes * GB), Memory(200 * GB, 150 * GB), Path("supernets/x"), 500 * GB)


def test_what_is_needed_and_what_is_there_is_one_line(tmp_path: Path) -> None:
    line = plain(needs(tmp_path).in_words(MUCH))
    said = r"fine-tuning \d+ GB \(full\), scoring [\d.]+ GB \(bfloat16\), of 2.00 TB that this machine has "
    assert re.fullmatch(said + r"\(1.50 TB free\); \d+ GB of disk \(5.00 TB free\)", line), line
    assert "of the host's 200 GB" in plain(needs(tmp_path, gpu(80)).in_words(gpu(80)))
    assert "fine-tuning" not in needs(tmp_path, steps=0).in_words(MUCH)


def test_auto_takes_what_fits_and_nothing_is_refused_then(tmp_path: Path) -> None:
    for gigabytes, expected in [(2000, "full"), (80, "lean"), (36, "leanest")]:
        found = needs(tmp_path, gpu(gigabytes), tokens_per_step=4096)
        assert found.memory == expected
        found.check_fine_tuning(gpu(gigabytes))
        found.check_scoring(gpu(gigabytes))


@pytest.mark.parametrize(
    ("training", "found", "complaint"),
    [
        (
            {"memory": "full"},
            gpu(80),
            r"training\.memory: full takes \d+ GB to fine-tune, the GPU has 80.0 GB; set it to lean",
        ),
        (
            {"memory": "full"},
            gpu(24),
            r"training\.steps: to fine-tune 6.738 B parameters takes at least 2\d.\d GB",
        ),
        (
            {"tokens_per_step": 10**6},
            gpu(80),
            r"training\.tokens_per_step: leanest with 1000000 takes .*; set it to \d+$",
        ),
        (
            {"tokens_per_step": 10**6, "memory": "lean"},
            gpu(40),
            r"training\.tokens_per_step: lean with .*; set it to \d+ and training\.memory to leanest$",
        ),
        (
            {"memory": "full"},
            replace(MUCH, disk=100 * GB),
            r"training\.memory: full takes 162 GB of disk .*, supernets has 100 GB free; set it to leanest \(",
        ),
        (
            {"memory": "lean"},
            replace(MUCH, disk=9 * GB),
            r"training\.memory: lean takes .* free; make room, or give --sup",
        ),
        (
            {},
            replace(gpu(80), host=Memory(8 * GB, 8 * GB)),
            r"model: writing the super-network takes .* the host's memory",
        ),
    ],
)
def test_what_can_not_fit_is_refused_by_the_setting_to_change(
    tmp_path: Path, training: dict[str, object], found: Room, complaint: str
) -> None:
    with pytest.raises(UserError) as refusal:
        needs(tmp_path, found, **training).check_fine_tuning(found)
    assert re.match(complaint, plain(str(refusal.value))), str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_network_that_can_not_be_scored_here_is_refused_by_its_dtype(tmp_path: Path) -> None:
    found = needs_of_model(llama2_7b(), tiny_settings(tmp_path), "float32", 2, MUCH)
    found.check_scoring(MUCH)
    with pytest.raises(
        UserError, match=r"^dtype: scoring in float32 takes .*, the GPU has 24.0.GB; write bfloat16, or"
    ):
        found.check_scoring(gpu(24))


def test_where_memory_can_not_be_known_nothing_is_refused(tmp_path: Path) -> None:
    unknown = replace(MUCH, device=None)
    found = needs(tmp_path, unknown)
    assert found.memory == "full" and "this machine has" not in found.in_words(unknown)
    found.check_fine_tuning(unknown)
    found.check_scoring(unknown)


def test_what_is_unfinished_on_the_disk_counts_as_free(tmp_path: Path) -> None:
    workspace = tmp_path / "supernet.unfinished" / "state"
    workspace.mkdir(parents=True)
    before = Room.here(tmp_path / "supernet").disk
    (workspace / "weights").write_bytes(b"1" * 50_000_000)
    assert Room.here(tmp_path / "supernet").disk == pytest.approx(before, abs=40_000_000)


@pytest.mark.parametrize(("limit", "total"), [("max", 8000), ("1048576", 1024), ("9223372036854771712", 8000)])
def test_a_container_s_limit_counts_where_it_is_less_than_the_machine_s_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, total: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n", encoding="ascii")
    (tmp_path / "limit").write_text(limit + "\n", encoding="ascii")
    monkeypatch.setattr(machine_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine_memory, "LIMITS", (tmp_path / "none", tmp_path / "limit"))
    assert host_memory() == Memory(total * 1024, min(total, 4000) * 1024)
    monkeypatch.setattr(machine_memory, "MEMINFO", tmp_path / "none")
    assert host_memory() is None
