"""An export's way to the hub: the hub's real client, in a process of its own, against a stand-in that takes notes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.data import ROOT
from tests.support.hub import Hub, Repository, running_hub

PROGRAM = """
import sys
from pathlib import Path
from services.application.export.push import push, require_pushable
from shared.errors import UserError
directory, repository, force = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "force"
try:
    require_pushable(repository, force)
    pushed = push(directory, repository, force)
except UserError as error:
    print(error)
    sys.exit(2)
print(pushed.url, pushed.private)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
def export(tmp_path: Path) -> Path:
    directory = tmp_path / "N5"
    (directory / "additional_chat_templates").mkdir(parents=True)
    (directory / "README.md").write_text("# N5\n")
    (directory / "model.safetensors").write_bytes(b"weights" * 1000)
    (directory / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}")
    return directory


def pushing(
    export: Path, environment: dict[str, str], repository: str = "me/smol-N5", force: bool = False
) -> tuple[int, str]:
    """Exit code, and what was printed: one line."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(export), repository, "force" if force else ""],
        env=inherited | {"PYTHONPATH": str(ROOT), "HF_HOME": str(export.parent / "home")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    (line,) = ran.stdout.splitlines()
    return ran.returncode, line


def test_a_new_repository_is_private_and_holds_every_file(export: Path, hub: Hub) -> None:
    assert pushing(export, hub.environment()) == (0, f"{hub.endpoint}/me/smol-N5 True")
    repository = hub.repositories["me/smol-N5"]
    assert repository.private
    assert repository.commits == ["Upload N5 with nasfarm"]
    assert repository.files == {
        "README.md": b"# N5\n",
        "model.safetensors": b"weights" * 1000,
        "additional_chat_templates/rag.jinja": b"{{ documents }}",
    }


def test_files_at_the_hub_are_not_replaced_unless_that_is_asked_for(export: Path, hub: Hub) -> None:
    hub.repositories["me/smol-N5"] = Repository(private=False, files={"model-00001.safetensors": b"old"})
    code, line = pushing(export, hub.environment())
    assert code == 2
    held = "--push me/smol-N5: the repository holds 1 file already"
    assert line == f"{held}; name another one, or replace what is there with --force"
    assert hub.repositories["me/smol-N5"].files == {"model-00001.safetensors": b"old"}
    assert not [path for method, path in hub.requests if method == "POST"]
    assert pushing(export, hub.environment(), force=True) == (0, f"{hub.endpoint}/me/smol-N5 False")
    assert set(hub.repositories["me/smol-N5"].files) == {
        "README.md",
        "model.safetensors",
        "additional_chat_templates/rag.jinja",
    }


def test_an_empty_repository_is_filled(export: Path, hub: Hub) -> None:
    hub.repositories["me/smol-N5"] = Repository(private=False)
    assert pushing(export, hub.environment()) == (0, f"{hub.endpoint}/me/smol-N5 False")


def test_without_a_token_nothing_is_asked(export: Path, hub: Hub) -> None:
    code, line = pushing(export, hub.environment(token=None))
    assert code == 2 and "no token" in line and "hf auth login" in line
    assert hub.requests == []


def test_a_token_that_the_hub_does_not_know(export: Path, hub: Hub) -> None:
    code, line = pushing(export, hub.environment(token="hf_nobody"))
    assert code == 2 and "the hub refuses" in line and "hf auth login" in line
    assert hub.repositories == {}


def test_a_name_space_in_which_the_user_may_not_write(export: Path, hub: Hub) -> None:
    hub.refusal = (403, "You don't have the rights to create a model under this namespace")
    code, line = pushing(export, hub.environment(), repository="others/smol")
    assert code == 2
    assert "You don't have the rights to create a model under this namespace" in line and "may write" in line


def test_a_card_that_the_hub_finds_wrong(export: Path, hub: Hub) -> None:
    hub.wrong_with_card = ('"license" must be one of ...', '"datasets[0]" must be an id')
    code, line = pushing(export, hub.environment())
    assert code == 2 and '"license" must be one of' in line and '"datasets[0]" must be an id' in line
    assert hub.repositories["me/smol-N5"].files == {}


@pytest.mark.parametrize("name", ["smol", "me/smol/N5", "me/ sm\u00f6l", "../smol", "me/smol.git", "me/a--b", ""])
def test_a_name_that_no_repository_has_is_refused(name: str, export: Path, hub: Hub) -> None:
    code, line = pushing(export, hub.environment(), repository=name)
    assert code == 2 and "give USER/NAME" in line
    assert hub.requests == []


def test_a_hub_that_can_not_be_reached(export: Path, hub: Hub) -> None:
    nowhere = hub.environment() | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    code, line = pushing(export, nowhere)
    assert code == 2 and "can't be reached" in line and "nothing was lost" in line
    code, line = pushing(export, hub.environment() | {"HF_HUB_OFFLINE": "1"})
    assert code == 2 and "HF_HUB_OFFLINE is set" in line
