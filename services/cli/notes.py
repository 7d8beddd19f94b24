"""What is logged while a command runs that has no log: our own notes are lines for the user, and so are
others' errors."""

import logging
import sys

from shared.telemetry.logs import OURS
from shared.text import one_line


class Notes(logging.Handler):
    """Writes to standard error, each note on a line of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] in OURS
        if record.levelno >= (logging.WARNING if ours else logging.ERROR):
            who = "" if ours else f"{record.name}: "
            sys.stderr.write(f"nasfarm: {who}{one_line(record.getMessage())}\n")


def show_notes() -> None:
    """Show notes where no log is configured."""
    logging.lastResort = Notes()
