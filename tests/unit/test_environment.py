"""The variables of nasfarm, and users who have no home."""

import getpass
import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from deploy.farm import __main__ as farm
from services.cli.main import main
from shared.broker import __main__ as broker
from shared.environment import KNOWN, MOST_THREADS, Environment, prepare_environment
from shared.errors import UserError
from shared.home import home

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _variables_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the function sets and removes by itself is undone."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in [name for name in os.environ if name.startswith("NASFARM_") or name == "XDG_CACHE_HOME"]:
        del os.environ[name]


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs this has neither a home nor a name."""

    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        os.environ.pop(name, None)


def test_every_variable_that_the_repository_names_is_in_the_table() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    texts = [
        (ROOT / name).read_bytes().decode(errors="ignore")
        for name in listed.stdout.splitlines()
        if (ROOT / name).is_file()
    ]
    named = {name for text in texts for name in re.findall(r"\bNASFARM_[A-Z_]*[A-Z]\b", text)}
    assert named - set(MADE_UP) == set(KNOWN)


MADE_UP = ("NASFARM_THREDS", "NASFARM_DRAIN_LIMITS", "NASFARM_XYZZY")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NASFARM_THREDS", "NASFARM_THREADS?"),
        ("NASFARM_DRAIN_LIMITS", "NASFARM_DRAIN_LIMIT?"),
        ("nasfarm_cache", "NASFARM_CACHE?"),
        ("NASFARM_XYZZY", "NASFARM_DATA, NASFARM_CACHE"),
    ],
)
def test_a_misspelt_variable_is_named_once_with_the_nearest_that_is_known(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ[name] = "1"
    prepare_environment()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nasfarm: {name} is not a variable") and said in line
    prepare_environment()
    assert capsys.readouterr().err == ""


def test_what_is_known_is_not_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    os.environ.update(dict.fromkeys(KNOWN, "1"))
    prepare_environment()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("entry", [farm.main, broker.main])
def test_each_command_warns(entry: object, capsys: pytest.CaptureFixture[str]) -> None:
    os.environ["NASFARM_THREDS"] = "1"
    with pytest.raises(SystemExit):
        entry(["--help"])  # type: ignore[operator]
    assert "NASFARM_THREADS?" in capsys.readouterr().err


def test_nasfarm_warns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    os.environ["NASFARM_THREDS"] = "1"
    monkeypatch.setattr("sys.argv", ["nasfarm", "--help"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit):
        main()
    assert "NASFARM_THREADS?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("NASFARM_THREADS", value) for value in ("-3", "1.5", "many", str(MOST_THREADS + 1), "100000", " ", "1e99")),
        *(("NASFARM_TELEMETRY_PORT", value) for value in ("-1", "80.5", "65536")),
        *(("NASFARM_TELEMETRY_HOST", value) for value in ("no host", "a..b", "http://here", "x" * 64, "127.0.0.1:80")),
        *(("NASFARM_EVALUATION_LIMIT", value) for value in ("nan", "inf", "-inf", "7200.1", "1h")),
        *(("NASFARM_DRAIN_LIMIT", value) for value in ("nan", "inf", "-0.1", "never")),
        ("NASFARM_LOG_FORMAT", "JSON"),
        *(("NASFARM_DATA", value) for value in ("/dev/null", "/no/such", "x" * 5000)),
        *((name, value) for name in ("NASFARM_CACHE", "NASFARM_GPU_LOCKS") for value in ("/dev/null", "/dev/null/x")),
        ("NASFARM_CACHE", "x" * 5000),
    ],
)
def test_an_absurd_value_is_refused_in_one_line_that_names_its_variable(
    variable: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ[variable] = value
    monkeypatch.setattr("sys.argv", ["nasfarm", "search", "none.yaml", "--broker", "amqp://user:secret@127.0.0.1/farm"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"nasfarm: {variable}: ") and "correct the variable or unset it" in line


@pytest.mark.parametrize("host", ["::", "::1", "fe80::1%eth0", "0.0.0.0", "localhost", "my-machine.example."])
def test_addresses_as_people_write_them_are_taken(host: str) -> None:
    os.environ["NASFARM_TELEMETRY_HOST"] = host
    assert Environment.read().telemetry_host == host


def test_a_home_is_written_as_a_tilde_in_every_path(tmp_path: Path) -> None:
    os.environ["HOME"] = str(tmp_path)
    (tmp_path / "data").mkdir()
    os.environ.update(NASFARM_DATA="~/data", NASFARM_CACHE="~/cache", NASFARM_GPU_LOCKS="~/locks")
    read = Environment.read()
    assert (read.data, read.cache, read.gpu_locks) == (tmp_path / "data", tmp_path / "cache", tmp_path / "locks")


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("named", [None, "", "relative", "/dev/null/home"])
def test_without_a_home_one_line_says_which_variable_to_set(named: str | None) -> None:
    if named is not None:
        os.environ["HOME"] = named
    prepare_environment()
    assert home() is None
    with pytest.raises(UserError, match=r"^NASFARM_CACHE: there is no home directory .* set the variable"):
        Environment.read()


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("chosen", ["NASFARM_CACHE", "XDG_CACHE_HOME"])
def test_what_is_chosen_for_a_cache_is_the_home_of_who_has_none(chosen: str, tmp_path: Path) -> None:
    os.environ[chosen] = str(tmp_path)
    prepare_environment()
    assert Environment.read().cache.is_relative_to(tmp_path)
    assert Path.home() == tmp_path and getpass.getuser() == str(os.getuid())


def test_a_home_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    os.environ["HOME"], os.environ["NASFARM_CACHE"] = str(tmp_path / "ann"), str(tmp_path / "cache")
    prepare_environment()
    assert Path.home() == tmp_path / "ann"
    del os.environ["NASFARM_CACHE"]
    assert Environment.read().cache == tmp_path / "ann" / ".cache" / "nasfarm"
