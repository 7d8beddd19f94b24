"""What benchmarks begin with that score the items of real benchmarks."""

import logging

import torch

from shared.environment import Environment


def environment_with_data() -> Environment | None:
    """The environment, with warnings off and torch's threads set; None, which is printed, where there are no data."""
    logging.disable(logging.WARNING)
    environment = Environment.read()
    if environment.data is None:
        print("skipped: the benchmark data are not there; set NASFARM_DATA")
        return None
    torch.set_num_threads(environment.threads)
    return environment
