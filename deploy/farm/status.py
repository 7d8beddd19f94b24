"""What `make status` prints: a line for each service, then how far the searches are."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.farm.broker_files import broker_url
from deploy.farm.console import print_line
from deploy.farm.programs import nasfarm
from deploy.farm.state import FarmDirectory, FarmSpec


@dataclass(frozen=True)
class ServiceState:
    """A service as a backend sees it: its name, a word for its state, and what else is worth knowing.

    `restarts`: how often it was started again because it had failed. `failed`: whether it is down after a failure, and
    isn't started again by itself.
    """

    name: str
    state: str
    detail: str = ""
    restarts: int = 0
    failed: bool = False


def print_services(services: Iterable[ServiceState]) -> None:
    """Print a line for each service."""
    for each in services:
        print_line(f"{each.name:<32} {each.state:<10} {each.detail}")


def print_searches(directory: FarmDirectory, farm: FarmSpec) -> None:
    """Print which searches have no super-network yet, and what `nasfarm status` says of the others."""
    print_services(ServiceState(name, "preparing", "its super-network isn't there yet") for name in farm.preparing)
    print_line("")
    credentials = str(directory.credentials / "operator")
    subprocess.run([nasfarm(), "status", "--broker", broker_url(farm), "--credentials", credentials], check=False)
