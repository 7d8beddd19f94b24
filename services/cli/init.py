"""`nasfarm init`: a search file to begin with, and the profile of what it would search."""

import json
import os
import re
import unicodedata
from pathlib import Path

from services.application.checkpoint_content import fetched
from services.application.estimate import assumed_tokens, estimate, whole_work
from services.application.example import has_benchmarks
from services.cli.console import console
from services.cli.preparation_display import PreparationDisplay
from services.cli.quiet import quiet_libraries
from services.cli.search_summary import print_cost, print_space
from services.evaluator.speed import parameter_tokens_per_second
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import is_directory, user_path
from shared.manifest import read_network, search_space
from shared.network.shape import NetworkShape
from shared.settings import LONGEST_NAME, read_search_file, write_search_file
from shared.space import check_searchable
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype
from shared.supernet.order import drop_order

WIDTH_STEP = 64
"""Widths are multiples of this, which matrix units like."""

SNAPSHOT = re.compile(r"models--(?:[^/]*?--)?(?P<name>[^/]+)/snapshots/[^/]+/?$")
"""A directory of the hub's cache: models--OWNER--NAME/snapshots/COMMIT."""

TEMPLATE = """\
# A search of nasfarm. Run it with: nasfarm search {path}
name: {quoted_name} # the run lies in runs/{name}
model: {model} # Hugging Face id or directory: Llama, Mistral, Qwen2, Qwen3, SmolLM3 or Gemma 3 (text)
# supernet: DIRECTORY # or digest: search over this super-network instead of the one that space and training describe

space:
  depths: {depths} # numbers of layers to choose from; the model has {layers}
  mlp_widths: {widths} # numbers of MLP neurons, chosen layer by layer; the model has {width}
  depth_rule: {rule} # which layers go first: those of least influence, or `first` to keep the first ones
  # quantization: [none, int8] # let each network choose LLM.int8(); needs an objective that sees it: bytes or seconds

training: # the one fine-tuning of the super-network
  data: {data} # alpaca, plain_facts (built in), or a JSON Lines file with instruction, input, output
  steps: {steps} # each trains the whole network or one random sub-network, in turns; 0: no fine-tuning
  tokens_per_step: {tokens}
  learning_rate: 3.0e-5
  neuron_order: importance # sort each MLP's neurons beforehand, or `none`

tasks: # lm-eval's; several are counted together, item by item
  - name: {task}
    metric: acc # or acc_norm, acc_bytes, exact_match
    # num_fewshot: 5 # examples in the prompt; default: the task's own
    # apply_chat_template: true # prompts by the tokenizer's chat template, for chat models; or one by its name
    search: {{items: {search_items}}} # the strategy sees these
    report: {{items: {report_items}}} # and some networks of the front are measured once on these

# include_path: DIRECTORY # with more tasks of lm-eval in YAML; not on a farm

search:
  strategy: linas # or nsga2, random
  evaluations: {evaluations} # networks that are measured
  population: {population} # of them in each generation
  seed: 0

objectives: [parameters] # what is traded against accuracy: parameters, bytes, prefill_seconds, decode_seconds
# serving: # measure speeds under this load; objectives in seconds need it
#   engine: torch # or vllm
#   batch: 1 # sequences at a time
#   prompt_tokens: 128
#   generated_tokens: 32
#   repeats: 5 # runs of each network of the front
# remeasure_int8: true # measure the front in INT8 too

reporting: # what is measured on the report items
  margin: {margin} # points of accuracy that may be lost; to show that fewer were takes more items
  networks: {networks} # of the front, both ends and others spread between them
  random: true # and a random network of the same size beside each

dtype: auto # bfloat16 where the machine has it, else float32
"""


def init_search_file(model: str, path: Path, force: bool, name: str | None = None) -> None:
    """Write a search file for a model and print its profile; nothing is run."""
    if path.exists() and not force:
        raise UserError(f"{path}: exists already; give another --output, or --force to overwrite it")
    quiet_libraries()
    environment = Environment.read()
    with PreparationDisplay() as display:
        directory, origin = fetched(model, Events(display))
    network = read_network(directory)
    check_searchable(network)
    write_search_file(path, search_text(model, network, path, has_benchmarks(environment), name))
    settings = read_search_file(path)
    console.print(f"Search file    {path}")
    console.print(f"Model          {origin}")
    space = search_space(network, settings.space, drop_order(network.depth, None))
    print_space(space, preferred_dtype())
    rate = parameter_tokens_per_second(Checkpoint.open(directory), preferred_dtype())
    cost = estimate(settings, space, rate, *assumed_tokens(settings), whole_work(settings))
    print_cost(settings, cost, training=True)
    console.print(f"Next           nasfarm search {path}")


def search_text(model: str, network: NetworkShape, path: Path, benchmarks: bool, name: str | None = None) -> str:
    """The commented search file: an eighth of the layers and up to half of each MLP may go."""
    layers, width = network.depth, min(network.mlp_widths)
    large = layers * network.hidden**2 > 10**9
    depths = {layers, layers - layers // 16, layers - layers // 8}
    called = _name(model) if name is None else name
    return TEMPLATE.format(
        path=_quoted(str(path))[1:-1],
        name=_quoted(called)[1:-1],
        quoted_name=_quoted(called),
        model=_quoted(model),
        depths=sorted(depths, reverse=True),
        rule="importance" if min(depths) > 1 else "first",
        layers=layers,
        widths=sorted({width, _rounded(width * 3 // 4), _rounded(width // 2)}, reverse=True),
        width=width,
        data="alpaca" if benchmarks else "plain_facts",
        steps=2000 if large else 200,
        tokens=16384 if large else 1024,
        task="arc_easy" if benchmarks else "plain_facts",
        search_items=400 if benchmarks else 328,
        report_items=1600 if benchmarks else 460,
        margin=2 if benchmarks else 5,
        networks=6 if large else 4,
        evaluations=250 if large else 48,
        population=50 if large else 12,
    )


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


def _quoted(text: str) -> str:
    """A text as YAML has it in double quotes: JSON's escapes and, of what can't be printed, YAML's own."""
    return "".join(
        character if character.isprintable() else f"\\U{ord(character):08x}"
        for character in json.dumps(text, ensure_ascii=False)
    )
