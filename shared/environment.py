"""What the environment decides: where data and caches lie, and how many cores are ours. The one table of its
variables."""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from shared.errors import UserError
from shared.failure_policy import DRAIN_SECONDS, EVALUATION_LIMIT_SECONDS, LEAVE_SECONDS
from shared.files import user_path
from shared.home import can_be_there, can_see_directory, home, nearest, prepare_home
from shared.text import one_line

PREFIX = "NASFARM_"
MOST_THREADS = 1024
"""More than that is a slip: each evaluator would start so many."""


def _listed(text: object) -> object:
    """What is between the commas of a variable."""
    return tuple(part for each in text.split(",") if (part := each.strip())) if isinstance(text, str) else text


class Environment(BaseModel):
    """The variables NASFARM_..., or their defaults. Their descriptions are the README's."""

    model_config = ConfigDict(frozen=True)

    data: Annotated[
        Path | None,
        Field(
            description="Directory with benchmarks as JSON Lines in the schemas of the Hugging Face hub "
            "(`arc_easy/test.jsonl`, `mmlu/test.jsonl.gz`, `alpaca/*.jsonl.gz` ...). Without it, they come from the "
            "hub."
        ),
    ]
    cache: Annotated[
        Path,
        Field(
            description="Where fetched checkpoints, a converted example model, digests of large files, lm-eval's index "
            "of tasks and measured costs are kept; also the home of libraries where the user has none."
        ),
    ]
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS, description=f"CPU threads, at most {MOST_THREADS}.")]
    locations: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed),
        Field(
            description="Directories, URLs and hub ids, separated by commas, at or below which a farm's evaluator "
            "opens checkpoints that requests name. It opens its super-network and that one's base model in any case."
        ),
    ] = ()
    gpu_locks: Annotated[
        Path | None,
        Field(
            description="Directory in which evaluators lock their GPUs and, while they time networks, their machine. "
            "Containers of one machine must share it."
        ),
    ] = None
    telemetry_host: Annotated[
        str, Field(description="Address at which a service of the farm serves metrics and health.")
    ] = "127.0.0.1"
    telemetry_port: Annotated[int, Field(ge=0, le=65535, description="Port for these; 0 takes any that is free.")] = (
        9464
    )
    evaluation_limit: Annotated[
        float,
        Field(
            gt=0,
            le=EVALUATION_LIMIT_SECONDS,
            description="Seconds that an evaluation may take, at most the default. Then it has failed (`timed_out`), "
            "and its evaluator exits with code 75, to be started again. Networks that are asked for together have as "
            "much each, and at most the default together; then each is asked for again alone.",
        ),
    ] = EVALUATION_LIMIT_SECONDS
    drain_limit: Annotated[
        float,
        Field(
            ge=0,
            le=EVALUATION_LIMIT_SECONDS,
            description="Seconds in which an evaluator that is asked to stop may finish its evaluation. What stops it "
            f"must allow {LEAVE_SECONDS} s more before it kills it.",
        ),
    ] = DRAIN_SECONDS
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Field(description="Format of logs: text, json, or auto, which is text on a terminal and JSON elsewhere."),
    ] = "auto"

    @field_validator("cache", "gpu_locks")
    @classmethod
    def _can_be_a_directory(cls, path: Path | None) -> Path | None:
        """Whether it may be written shows when it is: a service may get by without."""
        if path is None:
            return None
        path = user_path(str(path))
        if not can_see_directory(nearest(path.absolute())):
            raise ValueError
        return path

    @field_validator("telemetry_host")
    @classmethod
    def _is_an_address(cls, host: str) -> str:
        if ":" in host:
            ip_address(host)
        elif not re.fullmatch(r"([\w-]{1,63}\.)*[\w-]{1,63}\.?", host, re.ASCII):
            raise ValueError
        return host

    @classmethod
    def read(cls) -> Self:
        """Read the environment. Raises UserError for a value that makes no sense."""
        given = {name: value for name in cls.model_fields if (value := os.environ.get(variable(name)))}
        data = user_path(given["data"]) if "data" in given else None
        if data is not None and not can_see_directory(data):
            raise UserError(f"NASFARM_DATA: {data} is no directory; correct the variable or unset it to use the hub")
        try:
            return cls.model_validate(
                {
                    **given,
                    "data": data,
                    "cache": given["cache"] if "cache" in given else _default_cache(),
                    "threads": given.get("threads", usable_cores()),
                }
            )
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            raise UserError(
                f"{variable(field)}: must be {_EXPECTED[field]}; correct the variable or unset it"
            ) from error


def variable(field: str) -> str:
    """The variable that a field is read from."""
    return PREFIX + field.upper()


KNOWN = (
    *map(variable, Environment.model_fields),
    "NASFARM_FARM",  # which farm a process belongs to, and which part it has there: `deploy.farm.orphans`
    "NASFARM_FARM_PART",
    "NASFARM_IMAGES",  # images that are there already: `deploy.farm.compose_backend`
    "NASFARM_TEST_DEPLOY",  # test with real containers: tests/deploy
    "NASFARM_TEST_EXPORTS",  # where networks lie that tests/export load
)
"""All variables of nasfarm."""

_EXPECTED = {
    "cache": "a directory that is there or can be made",
    "gpu_locks": "a directory that is there or can be made",
    "telemetry_host": "an address of this machine, or its name",
    "threads": f"a whole number from 1 to {MOST_THREADS}",
    "telemetry_port": "a port, 0 to 65535 (0 takes any that is free)",
    "log_format": "auto, json or text",
    "evaluation_limit": f"a number of seconds above 0, at most {EVALUATION_LIMIT_SECONDS}",
    "drain_limit": f"a number of seconds, 0 to {EVALUATION_LIMIT_SECONDS}",
}


def prepare_environment() -> None:
    """What each command does first: name misspelt variables, and see to it that libraries find a home."""
    for name, close in _misspelt(os.environ).items():
        meant = f"did you mean {close}?" if close else f"its variables are {', '.join(KNOWN)}"
        print(f"nasfarm: {one_line(name)} is not a variable of nasfarm and has no effect; {meant}", file=sys.stderr)
        del os.environ[name]  # the commands that we run needn't say it again
    prepare_home()


def _misspelt(variables: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that look as if they were meant for us, with the nearest that we know."""
    unknown = sorted(name for name in variables if name.upper().startswith(PREFIX) and name not in KNOWN)
    closest = {
        name: difflib.get_close_matches(
            name.upper().removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in KNOWN], 1
        )
        for name in unknown
    }
    return {name: PREFIX + close[0] if close else None for name, close in closest.items()}


def _default_cache() -> Path:
    """Where nothing else is said. Raises UserError where nothing can be kept."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "nasfarm"
    place = home()
    cache = None if place is None else place / ".cache" / "nasfarm"
    if cache is None or not can_be_there(cache):
        raise UserError(
            "NASFARM_CACHE: there is no home directory to keep models and measured costs in; set the variable to a "
            "directory for them"
        )
    return cache


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or its container's quota if that is less; at most MOST_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(cores, MOST_THREADS)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
