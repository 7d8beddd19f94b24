"""A study's findings as Markdown, for a repository or a message: the claims and what is compared at each size."""

from collections.abc import Iterator, Sequence

from services.reporting import wording
from services.reporting.study.study_data import Accuracy, StudyContent, StudyRow, Transfer, TransferCell


def study_text(content: StudyContent) -> str:
    """The findings, beside which `figures/*.svg` lie."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: StudyContent) -> Iterator[str]:
    yield f"# {_plain(content.name)}: the claims of the LLaMA-NAS paper on {_plain(content.model)}"
    yield ""
    yield from content.summary.splitlines()
    yield from ("", "## What was studied", "")
    yield from _table(
        ("task", "metric", "examples", "search items", "report items"),
        [
            (task.name, task.metric, _number(task.num_fewshot), f"{task.search_items:,}", f"{task.report_items:,}")
            for task in content.tasks
        ],
    )
    yield ""
    yield from _table(
        ("super-network", "layers", "MLP widths", "tokens of fine-tuning, at most", "networks looked at, by search"),
        [
            (
                each.name,
                "/".join(map(str, each.depths)),
                "/".join(map(str, each.mlp_widths)),
                f"{each.tuned_tokens:,}",
                ", ".join(
                    f"{search.chosen_on} {search.networks}"
                    for search in content.searches
                    if search.supernet == each.name
                ),
            )
            for each in content.supernets
        ],
    )
    yield ""
    yield (
        f"{content.networks_on_report_items} different networks were ever measured on report items, by the study or by "
        "its searches; sizes and budgets may have been raised after looking at them."
    )
    yield from ("", "## The claims", "")
    yield from _table(
        ("super-network", "claim", "verdict", "evidence"),
        [(claim.supernet, claim.statement, f"**{claim.verdict}**", claim.evidence) for claim in content.claims],
    )
    for table in content.equal_size:
        yield from ("", f"## At least {table.times_smaller:g} times smaller", "")
        yield "Accuracy on the report items in percent; in the mean each task counts equally."
        yield ""
        yield from _networks(content, [content.network(key) for key in table.networks])
    built = [row for row in content.networks if row.kind == "heuristic"]
    if built:
        yield from ("", "## Networks that heuristics build, whatever their size", "")
        yield "Accuracy on the report items in percent."
        yield ""
        yield from _networks(content, built)
    for transfer in content.transfer:
        title = f"{_plain(transfer.supernet)}: chosen on one task, measured on another, at least"
        yield from ("", f"## {title} {transfer.times_smaller:g} times smaller", "")
        yield "Accuracy on the report items in percent; in brackets the points against the network chosen on that task."
        yield ""
        yield from _transfer(transfer)


def _transfer(transfer: Transfer) -> Iterator[str]:
    yield from _table(
        ("chosen on", "parameters", "times smaller", *transfer.tasks),
        [
            (
                on,
                wording.NOT_MEASURED if size.parameters is None else wording.parameters(size.parameters),
                wording.NOT_MEASURED if size.times_smaller is None else f"{size.times_smaller:.3f}",
                *(_transferred(transfer.cell(on, task)) for task in transfer.tasks),
            )
            for on, size in transfer.sizes.items()
        ],
    )


def _transferred(cell: TransferCell) -> str:
    if cell.accuracy is None:
        return ""
    compared = cell.versus_own
    against = "" if compared is None else f" ({wording.points(compared.difference)})"
    return wording.percentage(cell.accuracy.accuracy) + against


def _networks(content: StudyContent, rows: Sequence[StudyRow]) -> Iterator[str]:
    tasks = [task.name for task in content.tasks]
    yield from _table(
        ("network", "parameters", "times smaller", "tokens of fine-tuning, at most", *tasks, "mean (95 %)"),
        [
            (
                row.label,
                wording.NOT_MEASURED if row.parameters is None else wording.parameters(row.parameters),
                wording.NOT_MEASURED if row.true_times_smaller is None else f"{row.true_times_smaller:.3f}",
                f"{row.tuned_tokens:,}",
                *(_accuracy(row, task) for task in tasks),
                _with_interval(row.mean),
            )
            for row in rows
        ],
    )


def _accuracy(row: StudyRow, task: str) -> str:
    return wording.percentage(row.by_task[task].accuracy) if task in row.by_task else ""


def _with_interval(accuracy: Accuracy | None) -> str:
    return (
        "" if accuracy is None else f"{wording.percentage(accuracy.accuracy)} ({wording.interval(accuracy.interval)})"
    )


def _number(value: int | None) -> str:
    return "the task's own" if value is None else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _plain(text: str) -> str:
    """A text in one cell, with nothing in it that Markdown or HTML would take for its own."""
    one_line = " ".join(text.split()).replace(wording.SPACE, " ")
    for sign, escaped in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "\\`"), ("_", "\\_")):
        one_line = one_line.replace(sign, escaped)
    return one_line
