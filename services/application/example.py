"""The example search: on ARC-Easy where its data are to be had, else on the built-in plain facts; it says which."""

from pathlib import Path

from services.cli.console import console
from shared.environment import Environment
from shared.errors import UserError

SEARCHES = Path(__file__).parents[2] / "deploy" / "searches"
HUB_SECONDS = 5


def example_search_file(environment: Environment) -> Path:
    """The search file of the example, chosen by the data that can be had, and loudly."""
    if has_benchmarks(environment):
        path = SEARCHES / "smollm2-arc-easy.yaml"
        console.print("Example search: ARC-Easy, fine-tuned on Alpaca.", style="bold")
    else:
        path = SEARCHES / "smollm2-plain-facts.yaml"
        console.print(
            "Neither NASFARM_DATA nor the hub is there: the example search uses the built-in task "
            "plain_facts and the built-in instructions.",
            style="bold yellow",
        )
        console.print("Its accuracies say nothing about public benchmarks.")
    if not path.is_file():
        raise UserError(
            f"{path}: the example is part of the repository; run this in a clone of it, or give a search file"
        )
    return path


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
