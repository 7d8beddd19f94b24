"""The `nasfarm` command: each subcommand calls one service. Heavy modules are imported by the subcommand that needs
them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.application.run_directory import is_study
from services.application.supernet_store import SupernetStore
from services.cli.ending import leave_at_once_when_told, refusals_in_one_line
from services.cli.notes import show_notes
from services.cli.optional import OptionalValues
from services.exporter.names import FormatName, GgufType
from services.trainer.distributed.environment import started_together
from shared.environment import prepare_environment
from shared.errors import UserError
from shared.messages import Dtype, Engine
from shared.settings import MemoryChoice, SearchSettings, ServingSettings, TaskSettings

MOST_PROCESSES = 1024
"""More than that on one machine is a slip."""


def _serving(key: str) -> str:
    """What an option of the load means, and its default."""
    return f"{ServingSettings.summary(key)} Default: {ServingSettings.model_fields[key].default}."


app = typer.Typer(
    name="nasfarm",
    help="Shrink a Llama-family language model by neural architecture search.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# Who may read what is no question of the command line's: `readable=False` leaves it to those who open the file.
ARCHITECTURE_FILE = "JSON file with layers and mlp_widths, and perhaps without_attention"
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", readable=False, help="The study file.")]
SearchFile = Annotated[Path, typer.Argument(metavar="SEARCH.yaml", readable=False, help="The search file.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="Directory of a run, such as runs/NAME.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are kept.")]
Supernets = Annotated[
    Path | None, typer.Option("--supernets", help="Where super-networks are kept; default: supernets beside the runs.")
]
AtMost = Annotated[
    list[str] | None,
    typer.Option(
        "--at-most",
        metavar="COST=AMOUNT",
        help="Instead of a name: the most accurate network of the front (on search items) that has at most so much: "
        "parameters=100M, bytes=200MB, or, if the search timed them, prefill_seconds and decode_seconds=20ms. May be "
        "repeated.",
    ),
]
SupernetOfRun = Annotated[
    str | None,
    typer.Option(
        "--supernet",
        help="Directory or URL (s3://, gs://, hf://) of the run's super-network; default: where the run has it.",
    ),
]
FarmBroker = Annotated[str, typer.Option("--broker", metavar="URL", help="The farm's broker: amqps://HOST/VHOST.")]
Credentials = Annotated[
    Path | None,
    typer.Option("--credentials", readable=False, help="File with user:password, instead of having them in the URL."),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--authority", readable=False, help="Certificates (PEM) of who may sign the broker's; default: any known."
    ),
]


@app.command(epilog="Example: nasfarm init HuggingFaceTB/SmolLM2-135M-Instruct -o search.yaml")
def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=SearchSettings.summary("model"))],
    output: Annotated[Path, typer.Option("--output", "-o", help="The search file to write.")] = Path("search.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", help=f"{SearchSettings.summary('name')} Default: after the model.")
    ] = None,
) -> None:
    """Write a commented search file with sensible choices for a model, and print what it would search."""
    from services.cli.init import init_search_file

    init_search_file(model, output, force, name)


@app.command(epilog="Example: nasfarm schema --output search.schema.json")
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for it; default: the terminal.")] = None,
    study: Annotated[bool, typer.Option("--study", help="The schema of study files.")] = False,
) -> None:
    """Print the JSON Schema of search files, with which editors check and complete them; --study: of study files."""
    from services.cli.schema import write_schema

    write_schema(output, study)


@app.command(epilog="Example: nasfarm train search.yaml    (on all of eight GPUs: with --processes 8)")
def train(
    search_file: SearchFile,
    runs: Runs = Path("runs"),
    supernets: Supernets = None,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            min=1,
            max=MOST_PROCESSES,
            metavar="N",
            help="Train in so many processes, each on a GPU where there are any. Interrupted, any number resumes.",
        ),
    ] = 1,
) -> None:
    """Fine-tune the model into a super-network, for any number of searches. Interrupted, the same command resumes."""
    if processes > 1:
        from services.trainer.distributed.launching import run_together

        if started_together():
            raise UserError("--processes: torchrun has started several already; leave it out")
        places = ("--runs", str(runs), *(() if supernets is None else ("--supernets", str(supernets))))
        run_together((sys.executable, "-P", "-m", "services.cli.main", "train", str(search_file), *places), processes)
        return
    from services.cli.search import train as make

    make(search_file, runs, _store(runs, supernets))


@app.command(epilog="Example: nasfarm search search.yaml    (without a file: the example search)")
def search(
    search_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SEARCH.yaml]", readable=False, help="The search file; without one, the example search."
        ),
    ] = None,
    runs: Runs = Path("runs"),
    supernets: Supernets = None,
    broker: Annotated[
        str | None,
        typer.Option("--broker", metavar="URL", help="Have the evaluators of a farm measure: amqps://HOST/VHOST."),
    ] = None,
    credentials: Credentials = None,
    authority: Authority = None,
) -> None:
    """Fine-tune, search, measure the front and write the report. Interrupted, the same command resumes."""
    from services.cli.search import search_here, search_on_broker
    from shared.broker.address import BrokerAddress

    store = _store(runs, supernets)
    if broker is not None:
        search_on_broker(search_file, runs, store, BrokerAddress.parse(broker, credentials, authority))
        return
    _refuse_without_broker(credentials, authority)
    search_here(search_file, runs, store)


@app.command(epilog="Example: nasfarm study study.yaml")
def study(
    study_file: StudyFile,
    runs: Runs = Path("runs"),
    supernets: Supernets = None,
    broker: Annotated[
        str | None,
        typer.Option("--broker", metavar="URL", help="Have the evaluators of a farm measure: amqps://HOST/VHOST."),
    ] = None,
    credentials: Credentials = None,
    authority: Authority = None,
) -> None:
    """Search on each task, compare with baselines at equal size, and write it all up. The same command resumes."""
    from services.cli.study import study as run
    from shared.broker.address import BrokerAddress

    if broker is None:
        _refuse_without_broker(credentials, authority)
    address = None if broker is None else BrokerAddress.parse(broker, credentials, authority)
    run(study_file, runs, _store(runs, supernets), address)


@app.command(
    epilog="Example: nasfarm evaluator --broker amqps://broker.example/nasfarm --credentials credentials/evaluator "
    "--supernet runs/smollm2-arc-easy/supernet"
)
def evaluator(
    broker: FarmBroker,
    supernet: Annotated[
        str, typer.Option("--supernet", help="Directory or URL (s3://, gs://, hf://) of the super-network to serve.")
    ],
    credentials: Credentials = None,
    authority: Authority = None,
) -> None:
    """Measure sub-networks for `search --broker`. Ctrl-C finishes the current one, a second Ctrl-C leaves at once."""
    from services.cli.evaluator import evaluator as serve
    from shared.broker.address import BrokerAddress

    serve(BrokerAddress.parse(broker, credentials, authority), supernet)


@app.command(epilog="Example: nasfarm report runs/smollm2-arc-easy")
def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory to write it into; default: the run."),
    ] = None,
) -> None:
    """Write the report of a finished run or study again. With --output nothing of the run is changed."""
    if is_study(run):
        from services.cli.study import report as write
    else:
        from services.cli.run_view import report as write

    write(run, run if output is None else output)


@app.command(
    epilog="Example: nasfarm export runs/smollm2-arc-easy N5 --to gguf    (without N5: the networks there are)"
)
def export(
    run: Run,
    network: Annotated[
        str | None,
        typer.Argument(metavar="[NETWORK]", help="Its name in the report, such as N5 or dense; default: list them."),
    ] = None,
    to: Annotated[
        FormatName,
        typer.Option(
            "--to",
            case_sensitive=False,
            help="For whom: hf (Hugging Face transformers), vllm, or gguf (llama.cpp).",
        ),
    ] = "hf",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory to write it into; default: exports/RUN-NETWORK-FORMAT."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    architecture: Annotated[
        Path | None,
        typer.Option("--architecture", readable=False, help=f"{ARCHITECTURE_FILE}, instead of a name."),
    ] = None,
    at_most: AtMost = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Load the export and compare it with the network on 64 report items; default: if that takes less "
            "than about a minute.",
        ),
    ] = None,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Measure a network again on all report items where it is written in another quantisation (W8A8, Q8_0)"
            " than it was searched in; default: if that takes less than about three minutes.",
        ),
    ] = None,
    gguf_type: Annotated[
        GgufType | None,
        typer.Option(
            "--type",
            case_sensitive=False,
            help="How numbers are held in a GGUF file; default: as they were measured, INT8 as Q8_0.",
        ),
    ] = None,
    supernet: SupernetOfRun = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="USER/NAME",
            help="Upload it to this repository of the Hugging Face hub too, which is made, and is private, if it isn't "
            "there; one that holds files takes it only with --force.",
        ),
    ] = None,
) -> None:
    """Write a network of a run as a model that Hugging Face, vLLM or llama.cpp load; without NETWORK, list them."""
    from services.application.export.request import ExportRequest
    from services.cli.export import Wanted
    from services.cli.export import export as write

    wanted = Wanted(network, architecture, tuple(at_most or ()))
    write(run, wanted, ExportRequest(to, gguf_type, supernet, verify, push, measure), output, force)


@app.command(epilog="Example: nasfarm finish runs/smollm2-arc-easy N5    (without N5: the networks there are)")
def finish(
    run: Run,
    network: Annotated[
        str | None,
        typer.Argument(metavar="[NETWORK]", help="Its name in the report, such as N5; default: list them."),
    ] = None,
    at_most: AtMost = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory to write it into; default: finished/RUN-NETWORK."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps; default: the super-network's.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Highest learning rate; default: the super-network's.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Training data, as training.data names them; default: the super-network's."),
    ] = None,
    tokens_per_step: Annotated[
        int | None, typer.Option("--tokens-per-step", min=64, help="Tokens in each step; default: the super-network's.")
    ] = None,
    memory: Annotated[
        MemoryChoice | None,
        typer.Option("--memory", help="As training.memory; default: what the super-network's search file says."),
    ] = None,
    supernet: SupernetOfRun = None,
) -> None:
    """Fine-tune a network of a run further by itself, taught by the whole one, and measure what that was worth."""
    from services.application.finish.options import FinishOptions
    from services.cli.finish import Wanted
    from services.cli.finish import finish as make

    options = FinishOptions(steps, learning_rate, data, tokens_per_step, memory, supernet)
    make(run, Wanted(network, tuple(at_most or ())), options, output)


@app.command(epilog="Example: nasfarm status runs/smollm2-arc-easy    (without a run: all runs and super-networks)")
def status(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", readable=False, help="Directory of a run, such as runs/NAME; default: all."),
    ] = None,
    runs: Runs = Path("runs"),
    supernets: Supernets = None,
    broker: Annotated[
        str | None, typer.Option("--broker", metavar="URL", help="Show a farm instead: amqps://HOST/VHOST.")
    ] = None,
    credentials: Credentials = None,
    authority: Authority = None,
    as_json: Annotated[bool, typer.Option("--json", help="A farm's status as JSON.")] = False,
) -> None:
    """Show runs and super-networks; or how far one run has got; or a farm: searches, evaluators and queues."""
    if run is not None and broker is not None:
        raise UserError("status: of what? Give RUN, the directory of a run, or --broker, a farm's, not both")
    if broker is not None:
        from services.cli.farm_status_view import show_farm
        from shared.broker.address import BrokerAddress

        show_farm(BrokerAddress.parse(broker, credentials, authority), as_json)
        return
    _refuse_without_broker(credentials, authority, as_json)
    if run is not None:
        if is_study(run):
            from services.cli.study import status as show
        else:
            from services.cli.run_view import status as show

        show(run)
    else:
        from services.cli.inventory_view import show_all

        show_all(runs, _store(runs, supernets))


@app.command(epilog="Example: nasfarm remove 3f9a    (as nasfarm status lists it)")
def remove(
    supernet: Annotated[
        str, typer.Argument(metavar="SUPERNET", help="Directory or digest of a super-network, or how that begins.")
    ],
    runs: Runs = Path("runs"),
    supernets: Supernets = None,
) -> None:
    """Remove a super-network. Refuses while a run needs it."""
    from services.cli.inventory_view import remove_supernet

    remove_supernet(supernet, runs, _store(runs, supernets))


@app.command(
    epilog="Example: nasfarm stop smollm2-arc-easy --broker amqps://broker.example/nasfarm "
    "--credentials credentials/operator"
)
def stop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The search's name.")],
    broker: FarmBroker,
    credentials: Credentials = None,
    authority: Authority = None,
) -> None:
    """Ask a farm's search to end. What it has measured stays, and the same search command resumes it."""
    from services.cli.farm_status_view import stop_search
    from shared.broker.address import BrokerAddress

    stop_search(BrokerAddress.parse(broker, credentials, authority), name)


@app.command(
    cls=OptionalValues,
    epilog="Example: nasfarm evaluate --architecture runs/smollm2-arc-easy/front/N1.json --task arc_easy --items 200 "
    "--speed torch",
)
def evaluate(
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help=f"{TaskSettings.described('name')} May be repeated."),
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option("--include-path", readable=False, help=SearchSettings.summary("include_path"))
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option("--architecture", readable=False, help=f"{ARCHITECTURE_FILE}; default: the whole network."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="Checkpoint directory or id; default: the super-network of the file's run."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the layers' weights: LLM.int8().")] = False,
    dtype: Annotated[Dtype | None, typer.Option("--dtype", help="Default: the one that suits this machine.")] = None,
    items: Annotated[
        int | None,
        typer.Option(
            "--items",
            min=1,
            help="Number of items of each task, in a fixed random order (so of all subjects of a group), as a search "
            "takes them; default: the whole split.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="The first so many items of each task (of a group, of each of its tasks), as lm-eval's.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split; default: the one lm-eval scores.")] = None,
    num_fewshot: Annotated[
        int | None, typer.Option("--num-fewshot", min=0, help=TaskSettings.described("num_fewshot"))
    ] = None,
    apply_chat_template: Annotated[
        str | None,
        typer.Option(
            "--apply-chat-template",
            metavar="[NAME]",
            help=TaskSettings.described("apply_chat_template"),
        ),
    ] = None,
    fewshot_as_multiturn: Annotated[
        bool | None,
        typer.Option(help=TaskSettings.described("fewshot_as_multiturn")),
    ] = None,
    speed: Annotated[Engine | None, typer.Option("--speed", help="Measure tokens a second by this engine.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help=_serving("batch"))] = None,
    prompt_tokens: Annotated[
        int | None,
        typer.Option("--prompt-tokens", min=1, help=_serving("prompt_tokens")),
    ] = None,
    generated_tokens: Annotated[
        int | None,
        typer.Option("--generated-tokens", min=1, help=_serving("generated_tokens")),
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help=_serving("repeats"))] = None,
    output: Annotated[Path | None, typer.Option("--json", help="File for the whole result, item by item.")] = None,
) -> None:
    """Measure one sub-network by hand: accuracy, speed or both."""
    from services.application.evaluation import NetworkChoice
    from services.cli.evaluate import SpeedOptions, TaskOptions
    from services.cli.evaluate import evaluate as measure

    measure(
        NetworkChoice(checkpoint, architecture, int8, dtype),
        TaskOptions(
            tuple(tasks or ()),
            items,
            limit,
            split,
            num_fewshot,
            include_path,
            apply_chat_template,
            fewshot_as_multiturn,
        ),
        SpeedOptions(speed, batch, prompt_tokens, generated_tokens, repeats),
        output,
    )


def main() -> None:
    """Run the command; the user's errors end in one line and exit code 2, bugs in a traceback."""
    leave_at_once_when_told()
    show_notes()
    prepare_environment()
    with refusals_in_one_line():
        app()


def _store(runs: Path, supernets: Path | None) -> SupernetStore:
    return SupernetStore(runs.parent / "supernets" if supernets is None else supernets)


def _refuse_without_broker(credentials: Path | None, authority: Path | None, as_json: bool = False) -> None:
    for option, given in (("--credentials", credentials), ("--authority", authority), ("--json", as_json)):
        if given:
            raise UserError(f"{option}: of which broker? Name it with --broker, or leave {option} out")


if __name__ == "__main__":
    main()
