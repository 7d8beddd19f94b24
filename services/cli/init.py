"""`nasfarm init`: a search file to begin with, and the profile of what it would search."""

import os
import re
import unicodedata
from pathlib import Path

from services.application.checkpoint_content import described
from services.application.estimate import assumed_tokens, estimate, whole_work
from services.application.example import has_benchmarks
from services.application.pipeline import search_dtype
from services.application.quiet_libraries import quiet_libraries
from services.application.room import Room, needs_of_model
from services.cli.console import console
from services.cli.preparation_display import PreparationDisplay
from services.cli.requirements import print_requirements
from services.cli.search_summary import print_cost, print_space
from services.cli.shell_words import shell_word
from services.coordinator.budget import networks_to_measure
from services.evaluator.speed import parameter_tokens_per_second
from services.trainer.memory_choice import number_bytes
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import is_directory, user_path
from shared.manifest import search_space
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.settings import LONGEST_NAME, read_search_file, write_search_file
from shared.settings.commented import commented_search_file, without_unprintable
from shared.space import check_searchable
from shared.supernet.device import preferred_dtype
from shared.supernet.order import drop_order

WIDTH_STEP = 64
"""Widths are multiples of this, which matrix units like."""

SMALL = 5 * 10**8
"""Parameters up to which a model is fine-tuned at the rate that was best for the example's (`tests.benchmarks.front`).
"""

LARGE = 3 * 10**9
"""Parameters above which nobody fine-tunes without a GPU: as much is done as for the paper's model."""

SNAPSHOT = re.compile(r"models--(?:[^/]*?--)?(?P<name>[^/]+)/snapshots/[^/]+/?$")
"""A directory of the hub's cache: models--OWNER--NAME/snapshots/COMMIT."""

HEAD = """\
# A search of nasfarm. Run it with: nasfarm search {path}
# Keys that are commented out have these values anyway; where there is no default, an example is shown.
# An editor explains, completes and checks this file with the JSON Schema that `nasfarm schema` writes.
"""


def init_search_file(model: str, path: Path, force: bool, name: str | None = None) -> None:
    """Write a search file for a model and print its profile; nothing is run."""
    if path.exists() and not force:
        raise UserError(f"{path}: exists already; give another --output, or --force to overwrite it")
    quiet_libraries()
    environment = Environment.read()
    with PreparationDisplay() as display:
        checkpoint, origin = described(model, Events(display))
    network = checkpoint.network
    check_searchable(network)
    write_search_file(path, search_text(model, network, path, has_benchmarks(environment), name))
    settings = read_search_file(path)
    console.print(f"Search file    {path}")
    console.print(f"Model          {origin}")
    space = search_space(network, settings.space, drop_order(network.depth, None))
    print_space(space, search_dtype(settings, None, preferred_dtype()))
    rate = parameter_tokens_per_second(checkpoint, preferred_dtype())
    cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings, space))
    print_cost(settings, networks_to_measure(settings.search, space), cost, training=True)
    room = Room.here(path)
    dtype = search_dtype(settings, None, preferred_dtype())
    needs = needs_of_model(network, settings, dtype, number_bytes(checkpoint), room)
    console.print(f"Memory         {needs.in_words(room)}")
    try:
        needs.check_fine_tuning(room)
        needs.check_scoring(room)
    except UserError as error:
        console.print(f"               {error}")
    print_requirements(settings, space)
    console.print(f"Next           nasfarm search {shell_word(path)}")


def search_text(model: str, network: NetworkShape, path: Path, benchmarks: bool, name: str | None = None) -> str:
    """The commented search file: an eighth of the layers and up to half of each MLP may go."""
    layers, width = network.depth, min(network.mlp_widths)
    large = parameters(network) > LARGE
    depths = {layers, layers - layers // 16, layers - layers // 8}
    values = {
        "name": _name(model) if name is None else name,
        "model": model,
        "space": {
            "depths": sorted(depths, reverse=True),
            "mlp_widths": sorted({width, _rounded(width * 3 // 4), _rounded(width // 2)}, reverse=True),
            "depth_rule": "importance" if min(depths) > 1 else "first",
        },
        "training": {
            "data": "alpaca" if benchmarks else "plain_facts",
            "steps": 2000 if large else 65,
            "tokens_per_step": 16384 if large else 1024,
            "learning_rate": 1e-4 if parameters(network) <= SMALL else 1e-5 if large else 3e-5,
            "full_every": 4,
            "sampling": "stratified",
            "distillation": "all",
            "importance_on": "responses",
            "refit": True,
        },
        "tasks": [
            {
                "name": "arc_easy" if benchmarks else "plain_facts",
                "metric": "acc",
                "search": {"items": 400 if benchmarks else 328},
                "report": {"items": 1600 if benchmarks else 460},
            }
        ],
        "search": {
            "strategy": "bayesian",
            "evaluations": 1000 if large else 192,
            "population": 100 if large else 32,
            "slices": 4,
        },
        "objectives": ["parameters"],
        "reporting": {
            "margin": 2 if benchmarks else 5,
            "networks": 6 if large else 4,
            "random": True,
        },
    }
    notes = {"space.depths": f"the model has {layers}", "space.mlp_widths": f"the model has {width}"}
    return HEAD.format(path=without_unprintable(shell_word(path))) + "\n" + commented_search_file(values, notes)


def _rounded(width: int) -> int:
    return max(1, width - width % WIDTH_STEP if width >= WIDTH_STEP else width)


def _name(model: str) -> str:
    """A name for the run, after the model's; of a snapshot in the hub's cache that isn't the directory's, a commit."""
    directory = user_path(model)
    own = Path(os.path.abspath(directory)).name  # noqa: PTH100 (a link keeps the name that its user gave it)
    last = own if is_directory(directory) else model.rstrip("/").rsplit("/", 1)[-1]
    snapshot = SNAPSHOT.search(str(directory.absolute()))
    if snapshot is not None:
        last = snapshot["name"]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9._-]+", "-", plain.lower()).strip("._-")[:LONGEST_NAME] or "search"
