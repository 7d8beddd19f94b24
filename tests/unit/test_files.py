"""What is said where a file can't be written, and what of a large log is read."""

import errno
import os
from pathlib import Path

import pytest

from deploy.farm.process_backend import END_BYTES, _last_line
from shared.errors import UserError
from shared.files import writing


@pytest.mark.parametrize(
    ("number", "room"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.ENOTDIR, False)]
)
def test_more_room_is_only_asked_for_where_it_would_help(number: int, room: bool) -> None:
    with pytest.raises(UserError) as refusal, writing(Path("there")):
        raise OSError(number, os.strerror(number))
    assert ("free some space" in str(refusal.value)) == room
    assert "choose another place" in str(refusal.value)


def test_of_a_large_log_only_the_end_is_read_and_its_last_line_is_the_same(tmp_path: Path) -> None:
    log = tmp_path / "large.log"
    with log.open("wb") as file:
        file.truncate(2**40)  # more than fits into memory
        file.seek(0, os.SEEK_END)
        file.write(b"\nwhy it ended\n \n")
    assert _last_line(log) == "why it ended"
    log.write_bytes(b"x" * (2 * END_BYTES))
    assert _last_line(log) == "x" * END_BYTES
    assert _last_line(tmp_path / "missing.log") == "nothing was written"
