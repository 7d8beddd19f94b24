"""A program of this repository that waits a third of the time before it gives others up, to test what happens then.

python -m tests.support.impatient tests.support.stand_in --broker ...
python -m tests.support.impatient services.cli.main search ...
"""

from tests.support.changed import run_changed

CHANGES = {
    "shared.failure_policy": {
        "HEARTBEAT_SECONDS = 15\n": "HEARTBEAT_SECONDS = 5\n",
        "ANNOUNCE_SECONDS = 10\n": "ANNOUNCE_SECONDS = 3\n",
        "LOST_SECONDS = 60.0\n": "LOST_SECONDS = 20.0\n",
        "IDLE_SECONDS = 30.0\n": "IDLE_SECONDS = 9.0\n",
    },
}

if __name__ == "__main__":
    run_changed(CHANGES)
