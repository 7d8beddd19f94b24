"""A checkpoint from wherever it is named: a directory, the hub, a URL, or, for the example model, a Python package."""

from shared.supernet.source.fetch import fetch_checkpoint
from shared.supernet.source.hub import EXAMPLE_MODEL, fetch_config, fetch_model

__all__ = ["EXAMPLE_MODEL", "fetch_checkpoint", "fetch_config", "fetch_model"]
