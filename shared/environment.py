"""What the environment decides: where data and caches lie, and how many cores are ours. The only reader of its
variables."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.broker.protocol import EVALUATION_LIMIT_SECONDS
from shared.errors import UserError


def _listed(text: object) -> object:
    """What is between the commas of a variable."""
    return tuple(part for each in text.split(",") if (part := each.strip())) if isinstance(text, str) else text


class Environment(BaseModel):
    """The variables NASFARM_..., or their defaults.

    `data`: directory of benchmarks in the hub's schemas, or None; `cache`: where fetched models are kept; `threads`:
    CPU threads for arithmetic, by default the cores that this process may use; `telemetry_host`, `telemetry_port`:
    where a service serves metrics and health; `gpu_locks`: directory in which evaluators lock the GPUs that they have
    claimed, by default in the cache; containers that share GPUs share it; `log_format`: text, JSON, or what suits where
    the log goes; `locations`: where an evaluator opens checkpoints that requests name, besides what it is started
    with; `evaluation_limit`: seconds that an evaluation may take; `drain_limit`: seconds that an evaluator has for the
    evaluation in work once it is told to stop.
    """

    model_config = ConfigDict(frozen=True)

    data: Path | None
    cache: Path
    threads: int = Field(ge=1)
    telemetry_host: str = "127.0.0.1"
    telemetry_port: int = Field(default=9464, ge=0, le=65535)
    gpu_locks: Path | None = None
    log_format: Literal["auto", "json", "text"] = "auto"
    evaluation_limit: float = Field(default=EVALUATION_LIMIT_SECONDS, gt=0, le=EVALUATION_LIMIT_SECONDS)
    locations: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    drain_limit: float = Field(default=15 * 60, ge=0, le=EVALUATION_LIMIT_SECONDS)

    @classmethod
    def read(cls) -> Self:
        """Read the environment. Raises UserError for a value that makes no sense."""
        user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        data = os.environ.get("NASFARM_DATA")
        if data and not Path(data).is_dir():
            raise UserError(f"NASFARM_DATA: {data} is no directory; mend the variable or unset it to use the hub")
        try:
            return cls(
                data=Path(data) if data else None,
                cache=Path(os.environ.get("NASFARM_CACHE") or user_cache / "nasfarm"),
                threads=os.environ.get("NASFARM_THREADS") or usable_cores(),  # type: ignore[arg-type]  # pydantic converts
                **_set(*_OPTIONAL),
            )
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            raise UserError(
                f"NASFARM_{field.upper()}: must be {_EXPECTED[field]}; mend the variable or unset it"
            ) from error


_OPTIONAL = (
    "telemetry_host",
    "telemetry_port",
    "gpu_locks",
    "log_format",
    "locations",
    "evaluation_limit",
    "drain_limit",
)
_EXPECTED = {
    "threads": "a whole number from 1",
    "telemetry_port": "a port, 0 to 65535 (0 takes any that is free)",
    "log_format": "auto, json or text",
    "evaluation_limit": f"a number of seconds above 0, at most {EVALUATION_LIMIT_SECONDS}",
    "drain_limit": f"a number of seconds, 0 to {EVALUATION_LIMIT_SECONDS}",
}


def _set(*names: str) -> dict[str, Any]:
    """Those of the variables that are set, by the names of their fields."""
    return {name: value for name in names if (value := os.environ.get(f"NASFARM_{name.upper()}"))}


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or its container's quota if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
