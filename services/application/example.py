"""The example search: on ARC-Easy where its data are to be had, else on the built-in plain facts; it says which."""

from dataclasses import dataclass
from pathlib import Path

from shared.environment import Environment
from shared.errors import UserError

SEARCHES = Path(__file__).parents[2] / "deploy" / "searches"
HUB_SECONDS = 5


@dataclass(frozen=True)
class ExampleSearch:
    """The example's search file, and lines that say which data were chosen; `limited`: they are no public benchmark."""

    file: Path
    choice: tuple[str, ...]
    limited: bool


def example_search(environment: Environment) -> ExampleSearch:
    """The example, chosen by the data that can be had. Raises UserError where this is no clone of the repository."""
    if has_benchmarks(environment):
        said = "Example search: ARC-Easy, fine-tuned on Alpaca."
        example = ExampleSearch(SEARCHES / "smollm2-arc-easy.yaml", (said,), limited=False)
    else:
        said = (
            "Neither NASFARM_DATA nor the hub is there: the example search uses the built-in task plain_facts and the "
            "built-in instructions."
        )
        choice = (said, "Its accuracies say nothing about public benchmarks.")
        example = ExampleSearch(SEARCHES / "smollm2-plain-facts.yaml", choice, limited=True)
    if not example.file.is_file():
        raise UserError(
            f"{example.file}: the example is part of the repository; run this in a clone of it, or give a search file"
        )
    return example


def has_benchmarks(environment: Environment) -> bool:
    """Whether ARC-Easy and Alpaca can be had, from the local directory or from the hub."""
    if environment.data is not None and all((environment.data / folder).is_dir() for folder in ("arc_easy", "alpaca")):
        return True
    return _hub_answers()


def _hub_answers() -> bool:
    try:
        from huggingface_hub import constants, get_session
    except ModuleNotFoundError:  # a coordinator has no need of it
        return False
    if constants.is_offline_mode():
        return False
    try:
        return bool(get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS).status_code < 500)
    except Exception:  # whatever keeps us from the hub, the answer is no
        return False
