"""The command as it is run by a user whom the machine doesn't know: without a name, without a home."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.command import NASFARM, environment
from tests.support.namespaces import unshare

UNKNOWN = 12345
"""A number that no user has."""


def as_nobody(command: Sequence[object], directory: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the unknown user, who owns what we own."""
    become = unshare(f"--map-user={UNKNOWN}", f"--map-group={UNKNOWN}")
    variables = environment(PYTHONPATH=os.pathsep.join(sys.path), **changes)
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        variables.pop(name, None)
    if "NASFARM_CACHE" not in changes:
        variables.pop("NASFARM_CACHE", None)
    return subprocess.run(
        [*become, *map(str, command)], cwd=directory, env=variables, capture_output=True, text=True, check=False
    )


def test_an_unknown_user_measures_a_network_with_nothing_but_a_place_for_the_cache(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    load = ["--speed", "torch", "--batch", 1, "--prompt-tokens", 4, "--generated-tokens", 2, "--repeats", 1]
    measure = [NASFARM, "evaluate", "--checkpoint", "base", *load]
    measured = as_nobody(measure, tmp_path, NASFARM_CACHE=str(tmp_path / "cache"))
    assert measured.returncode == 0, measured.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "cache"]


def test_without_such_a_place_one_line_says_which_variable_to_set(tmp_path: Path) -> None:
    search = [NASFARM, "search", "none.yaml", "--broker", "amqp://user:secret@127.0.0.1/farm"]
    refused = as_nobody(search, tmp_path)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("nasfarm: NASFARM_CACHE: there is no home directory")


@pytest.mark.parametrize(
    "arguments", [[NASFARM, "status"], [sys.executable, "-m", "deploy.farm", "down"]], ids=["nasfarm", "farm"]
)
def test_what_keeps_nothing_needs_no_home(arguments: list[object], tmp_path: Path) -> None:
    done = as_nobody(arguments, tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == []
