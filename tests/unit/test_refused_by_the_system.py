"""What the command says where the operating system refuses something that nobody thought of."""

import pytest

from services.cli import main as module
from tests.support.command import nasfarm


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "runs/\x1bone"), "runs/�one: Permission denied"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (PermissionError("not yours"), "not yours"),
        (PermissionError(), "permission denied"),
    ],
)
def test_a_refusal_is_said_in_one_line_also_where_it_names_no_file(
    error: PermissionError, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def app() -> None:
        raise error

    monkeypatch.setattr(module, "app", app)
    ended = nasfarm(capsys, monkeypatch, "status")
    assert ended.code == 2
    assert ended.error == f"nasfarm: {said}; have its owner let you use it, or choose another place\n"
