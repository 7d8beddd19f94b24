"""`nasfarm evaluator`: one evaluator of a farm."""

from services.cli.quiet import quiet_libraries
from services.evaluator.service import run_evaluator
from shared.broker.address import BrokerAddress
from shared.environment import Environment
from shared.telemetry.logs import configure_logs


def evaluator(address: BrokerAddress, supernet: str) -> None:
    """Serve the super-network in a directory, or at a URL, until told to stop."""
    environment = Environment.read()
    configure_logs(environment.log_format)
    quiet_libraries()
    run_evaluator(address, supernet, environment)
