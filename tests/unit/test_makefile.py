"""The environment that `make` sets up, with a Python that only pretends to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.data import ROOT

PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exit 0
rm -rf "$4"
mkdir -p "$4/bin"
echo "made" >> made
cat > "$4/bin/pip" <<'END'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd -P)
echo "#!$here/python3" > "$here/nasfarm"
END
chmod +x "$4/bin/pip"
"""


def make(checkout: Path) -> str:
    """Have the environment; what `make` says."""
    ended = subprocess.run(
        ["make", "--no-print-directory", "PYTHON=./python", ".venv/ready"],
        cwd=checkout,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout


@pytest.mark.parametrize("name", ["checkout", "with a space"])
def test_an_environment_is_made_again_where_the_checkout_was_moved_or_copied_to(tmp_path: Path, name: str) -> None:
    checkout = tmp_path / name
    checkout.mkdir()
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, checkout)
    (checkout / "python").write_text(PYTHON)
    (checkout / "python").chmod(0o755)
    assert "Setting up .venv" in make(checkout)
    assert "Setting up" not in make(checkout)
    copy = tmp_path / f"{name} copied"
    shutil.copytree(checkout, copy)
    checkout = checkout.rename(tmp_path / f"{name} moved")
    for place in (copy, checkout):
        assert ".venv was made in another place; it is made again" in make(place)
        assert (place / "made").read_text() == "made\nmade\n"
        assert str(place) in (place / ".venv" / "bin" / "nasfarm").read_text()
        assert "Setting up" not in make(place)


def test_an_environment_that_is_a_link_is_left_to_whom_it_belongs(tmp_path: Path) -> None:
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    own = tmp_path / "elsewhere"
    own.mkdir()
    (tmp_path / ".venv").symlink_to(own)
    (own / "ready").touch()
    assert "Setting up" not in make(tmp_path)
