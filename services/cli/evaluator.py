"""`nasfarm evaluator`: one evaluator of a farm."""

from services.evaluator.gpu import claim_gpu
from services.evaluator.service import run_evaluator
from shared.broker.address import BrokerAddress
from shared.environment import Environment
from shared.telemetry.logs import configure_logs


def evaluator(address: BrokerAddress, supernet: str) -> None:
    """Serve the super-network in a directory, or at a URL, until told to stop, on a GPU of one's own where there is
    one."""
    environment = Environment.read()
    configure_logs(environment.log_format)
    claim_gpu(environment.gpu_locks or environment.cache / "gpus")
    from services.application.quiet_libraries import (
        quiet_libraries,  # loads torch, which looks once for the GPUs that it may use
    )

    quiet_libraries()
    run_evaluator(address, supernet, environment)
