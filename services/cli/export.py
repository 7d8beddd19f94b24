"""`nasfarm export`: the front of a run as a list to choose from, and one of its networks for others to load."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from services.application.export.choice import choose
from services.application.export.place import Place, default_output
from services.application.export.request import ExportRequest
from services.application.export.searched_run import SearchedRun
from services.application.finish.place import is_finished
from services.cli.console import console
from services.cli.preparation_display import SUBJECT_WIDTH, PreparationDisplay
from services.cli.shell_words import shell_word
from services.reporting import wording
from services.reporting.displayed_costs import displayed_costs
from services.reporting.report_data import NetworkRow
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import user_path
from shared.text import one_line

if TYPE_CHECKING:
    from services.application.export.source import ExportSource


@dataclass(frozen=True)
class Wanted:
    """Which network: by its name, by a file, or by what it may cost at most."""

    name: str | None
    architecture: Path | None
    at_most: tuple[str, ...]


def export(path: Path, wanted: Wanted, asked: ExportRequest, output: Path | None, force: bool) -> None:
    """Export the network of a run that is wanted; if none is, list those there are. A finished network is the only one
    of its directory."""
    if is_finished(path):
        _export_finished(path, wanted, asked, output, force)
        return
    run = SearchedRun.read(path)
    chosen = choose(run, wanted.name, wanted.architecture, wanted.at_most)
    if chosen is None:
        options: dict[str, object] = {"--output": output, "--force": force or None, "--type": asked.gguf_type}
        options |= {"--verify": asked.verify, "--measure": asked.measure, "--supernet": asked.supernet}
        options |= {"--push": asked.push}
        first = run.report.front[0] if run.report.front else run.report.dense
        list_networks(path, run, "export", options, example=first.name)
        return
    if chosen.why:
        say("Chosen", f"{chosen.name}, {chosen.why}")
    shown = default_output(run.name, chosen.name, _kind(asked)) if output is None else user_path(str(output))
    place = Place.of(shown, run.directory, force)
    from services.application.export.source import of_run  # what holds a model is loaded only now

    _export(of_run(run, chosen), asked, place, shown)


def _export_finished(path: Path, wanted: Wanted, asked: ExportRequest, output: Path | None, force: bool) -> None:
    options = {"NETWORK": wanted.name, "--architecture": wanted.architecture, "--at-most": wanted.at_most or None}
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option}: {path} is one finished network, with nothing to choose; leave it out")
    from services.application.export.source import of_finished

    source = of_finished(path)
    default = default_output(source.run, f"{source.network}-finished", _kind(asked))
    shown = default if output is None else user_path(str(output))
    _export(source, asked, Place.of(shown, None, force), shown)


def _export(source: "ExportSource", asked: ExportRequest, place: Place, shown: Path) -> None:
    from services.application.export.export_network import export_network
    from services.application.quiet_libraries import quiet_libraries

    quiet_libraries()
    with PreparationDisplay() as display:
        verified = export_network(source, asked, place, Environment.read(), Events(display))
    if verified is not None:
        say("Verified", verified.in_words())
    name = source.network if source.finished is None else f"{source.network}, finished,"
    say("Exported", f"{name} for {asked.format}: {shown}; its README.md says how to load and serve it")


def _kind(asked: ExportRequest) -> str:
    return asked.format if asked.gguf_type is None else f"{asked.format}-{asked.gguf_type}"


def list_networks(
    path: Path, run: SearchedRun, command: str, options: Mapping[str, object], example: str | None
) -> None:
    """The networks of a run, with their sizes, and how to go on by a command that takes one, with the `example` of a
    name; None where there is nothing to go on with. Raises UserError where one of the command's `options` is given (not
    None): all are about a network."""
    for option, value in options.items():
        if value is not None:
            lists = f"`nasfarm {command} {shell_word(path)}`"
            raise UserError(f"{option}: of which network? Name one; {lists} lists those there are")
    content = run.report
    table = Table(box=SIMPLE_HEAD, show_edge=False)
    table.add_column("Network", no_wrap=True)
    for title in ("Parameters", "Weights", "Times smaller", "Search %", "Report %", "INT8"):
        table.add_column(title, justify="right", no_wrap=True)
    for rows in (content.front, (content.dense,), content.int8):
        for row in rows:
            table.add_row(Text(row.name), *_cells(row))
        table.add_section()
    console.print(table)
    if example is None:
        say("Next", f"nothing: no network of this run can be taken by nasfarm {command}")
        return
    costs = displayed_costs(content)
    smallest = min(content.front, key=costs[0].required_of, default=content.dense)
    run_path = shell_word(path)
    say("Next", f"nasfarm {command} {run_path} {example}")
    say(
        "",
        f"or, by need, nasfarm {command} {run_path} --at-most {costs[0].objective}={costs[0].required_of(smallest):.0f}"
        f" (this run knows {', '.join(cost.objective for cost in costs)})",
    )


def _cells(row: NetworkRow) -> tuple[str, ...]:
    return (
        wording.parameters(row.parameters),
        wording.size(row.bytes),
        f"{row.ratio:.2f}",
        wording.percentage(row.search_accuracy),
        wording.percentage(row.report_accuracy),
        "yes" if row.architecture.quantization == "int8" else "",
    )


def say(subject: str, text: str) -> None:
    """A line about something."""
    console.print(f"{subject:<{SUBJECT_WIDTH}}{one_line(text)}")
