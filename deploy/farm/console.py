"""What the farm's commands print: names, reasons and logs are others' text, which must not move the cursor."""

from shared.text import one_line


def print_line(text: str) -> None:
    """Print a line, at once."""
    print(one_line(text), flush=True)


def printable_log_line(line: bytes) -> str:
    """A line of a log as it can be shown, whatever was written there."""
    return one_line(line.decode(errors="replace").rstrip("\r\n").expandtabs())
