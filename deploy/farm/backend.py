"""What can run a farm: processes of this machine, or containers. Both are given the same farm and directory."""

from typing import Protocol

from deploy.farm.state import FarmSpec
from deploy.farm.status import ServiceState


class Backend(Protocol):
    """Brings a farm up and takes it down. Made with the FarmDirectory; raises UserError for what the user can change.

    Bringing up is: `check`, `start_broker`, `train` (unless the super-network is there), then the operator adds the
    queues through 127.0.0.1 and `FarmSpec.port`, then `apply`.
    """

    def check(self, farm: FarmSpec) -> None:
        """See whether all that is needed is there: programs, a free port. Changes nothing."""
        ...

    def start_broker(self, farm: FarmSpec) -> None:
        """Have RabbitMQ run with the farm's files and data, if it doesn't yet; returns when it lets users in.

        `broker_files.wait_for_broker` does the waiting.
        """
        ...

    def train(self, farm: FarmSpec, name: str) -> None:
        """Make the super-network of `FarmDirectory.search_file(name)` in `FarmDirectory.store`, in the foreground, with
        its progress shown; an interrupted one is resumed. Raises UserError if the farm is or goes down meanwhile."""
        ...

    def apply(self, farm: FarmSpec) -> None:
        """Have a coordinator run for each search, and the evaluators of each super-network: start what is missing or
        had failed, drain what is too many. Returns without waiting for that, but `states` tells no state from before.
        """
        ...

    def running(self) -> bool:
        """Whether the farm is up, or a part of it."""
        ...

    def states(self) -> list[ServiceState]:
        """What there is and how it is."""
        ...

    def ended(self) -> dict[str, int]:
        """Names of the searches whose coordinator ended for good, with its exit code."""
        ...

    def last_line(self, name: str) -> str:
        """The last line that a service wrote, by its name in `states`: why it ended."""
        ...

    def follow_logs(self) -> None:
        """Show the logs of all services as they are written, until Ctrl-C."""
        ...

    def down(self) -> None:
        """End fine-tunings, drain the evaluators, end the coordinators, stop RabbitMQ; data are kept. Nothing runs when
        it returns. Raises UserError if something can't be ended."""
        ...

    def destroy(self) -> None:
        """End everything without waiting for what is being measured, whatever is left of the farm's directory, and
        remove what is kept outside it or belongs to others. Raises UserError if something can't be ended."""
        ...
