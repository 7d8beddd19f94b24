"""A GPU of its own for each evaluator of a host, however they are started: as processes, or in containers that see all
GPUs."""

import logging
import os
import subprocess
from pathlib import Path

from shared.errors import UserError, first_line
from shared.files import writing
from shared.locks import claim
from shared.telemetry.logs import fields

log = logging.getLogger(__name__)

PROGRAM = "nvidia-smi"
QUERY_SECONDS = 60

CHOSEN = "CUDA_VISIBLE_DEVICES"


def claim_gpu(locks: Path) -> str | None:
    """Claim a GPU that no other evaluator has, and let CUDA see no other. To be called before torch is imported.

    A GPU is claimed by locking a file of its UUID in the directory `locks`, until the process ends in whatever way.
    Where CUDA_VISIBLE_DEVICES is set, or where there is no GPU, nothing is done. Returns the GPU's UUID.

    Raises UserError if all are claimed, or if the lock files can't be written.
    """
    if CHOSEN in os.environ:
        return None
    gpus = _gpus()
    for uuid in gpus:
        with writing(locks):
            locks.mkdir(parents=True, exist_ok=True)
        if claim(locks / f"{uuid}.lock"):
            os.environ[CHOSEN] = uuid
            log.info("GPU claimed", extra=fields(gpu=uuid))
            return uuid
    if gpus:
        raise UserError(
            f"no GPU is free: other evaluators have all {len(gpus)} of this host (locks in {locks}); "
            f"start as many evaluators as there are GPUs, or choose one yourself with {CHOSEN}"
        )
    return None


def _gpus() -> list[str]:
    """The UUIDs of the host's GPUs; none where there is no driver, or one that doesn't work."""
    try:
        asked = subprocess.run(
            [PROGRAM, "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=QUERY_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        return []
    except subprocess.CalledProcessError as error:
        log.warning("no GPU is used: nvidia-smi fails", extra=fields(reason=error.stdout.strip() or error.stderr))
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{PROGRAM}: doesn't answer ({first_line(error)}); fix the driver, or set {CHOSEN}") from error
    return [line.strip() for line in asked.stdout.splitlines() if line.startswith("GPU-")]
