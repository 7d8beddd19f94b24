"""What `torchrun` tells the processes that it starts. Free of torch."""

import os

SIZE, RANK = "WORLD_SIZE", "RANK"
SPEAKING_SECONDS = 20
"""One process says for all why it ends, and with which exit code: so long others wait that lose it, and half as long
those that know it too. They are ended meanwhile by whatever has started them."""


def started_together() -> bool:
    """Whether this process is one of several that train a network together."""
    return processes() > 1


def processes() -> int:
    """How many train together."""
    return int(os.environ.get(SIZE, "1"))


def is_first() -> bool:
    """Whether it is the one that speaks for all; so is one that trains alone."""
    return os.environ.get(RANK, "0") == "0"
