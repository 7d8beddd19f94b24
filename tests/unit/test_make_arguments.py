"""What `make` hands on to the commands, word by word."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIABLES = ("SEARCH", "EVALUATORS", "FARM_PORT", "PROFILE")
ODD = ["search.yaml", "my search.yaml", 'Ann\'s "first" search.yaml', "*; $HOME `id` $(id) & # \\.yaml", "--help"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The commands of an environment, which do nothing but show their arguments."""
    for name in ("python", "nasfarm"):
        (tmp_path / name).write_text(
            f"#!{sys.executable}\nimport json, sys\nprint('arguments', json.dumps(sys.argv[1:]))\n"
        )
        (tmp_path / name).chmod(0o755)
    return tmp_path


def made(programs: Path, target: str, **variables: str) -> list[str]:
    """The arguments that the command of a target is given."""
    given = [f"{name}={value.replace('$', '$$')}" for name, value in variables.items()]
    ours = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", *VARIABLES)  # of the `make test` that runs us
    done = subprocess.run(
        ["make", "--no-print-directory", "--old-file=.venv/ready", target, f"BIN={programs}", *given],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ours},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("arguments "))
    assert done.stderr == ""
    arguments: list[str] = json.loads(line.removeprefix("arguments "))
    return arguments


@pytest.mark.parametrize("search", ODD)
def test_a_search_file_s_name_is_one_word_whatever_is_in_it(programs: Path, search: str) -> None:
    assert made(programs, "search", SEARCH=search) == ["search", "--", search]
    words = ["-m", "deploy.farm", "deploy", "--search", search, "--port", "5999"]
    assert made(programs, "deploy", SEARCH=search, FARM_PORT="5999") == words


def test_what_is_not_given_is_left_out(programs: Path) -> None:
    assert made(programs, "search") == ["search"]
    assert made(programs, "deploy") == ["-m", "deploy.farm", "deploy"]
    assert made(programs, "scale") == ["-m", "deploy.farm", "scale", "--evaluators", ""]
    assert made(programs, "scale", EVALUATORS="2 ; 3") == ["-m", "deploy.farm", "scale", "--evaluators", "2 ; 3"]
