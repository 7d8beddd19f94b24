"""From a study's measurements to what its report says. Whatever is missing is left empty and named."""

from collections.abc import Sequence
from datetime import UTC, datetime

from services.coordinator.study.networks import Study, of_kind
from services.reporting.report_item_use import networks_on_items
from services.reporting.study.answers import StudyAnswers, label
from services.reporting.study.claim_wording import summary
from services.reporting.study.claims import judge
from services.reporting.study.compared import Beside
from services.reporting.study.corrections import corrected
from services.reporting.study.equal_size import against_heuristics, before_and_after_int8, equal_sizes, transfers
from services.reporting.study.published import PUBLISHED
from services.reporting.study.searched import Searched
from services.reporting.study.selected import selected
from services.reporting.study.study_data import StudiedSupernet, StudiedTask, StudyContent
from services.reporting.wording import proceeding


def assemble(study: Study) -> StudyContent:
    """Content of the report."""
    settings, answers = study.settings, StudyAnswers(study)
    beside = Beside(answers)
    searched = [Searched(search, study) for search in study.searches]
    by_name = {(each.search.supernet, each.search.chosen_on): each for each in searched}
    fronts = [front for front in (each.front() for each in searched) if front is not None]
    margin = settings.reporting.margin / 100
    matrices = corrected(transfers(answers, beside))
    claims = judge(answers, beside, matrices, fronts, margin)
    int8 = (*(row for each in searched for row in each.int8()), *before_and_after_int8(answers))
    return StudyContent(
        name=settings.name,
        model=settings.model,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        dtype=study.dtype,
        margin=margin,
        sizes=settings.sizes,
        tasks=tuple(
            StudiedTask(
                name=task.name,
                metric=task.metric,
                num_fewshot=task.num_fewshot,
                search_items=task.search.items,
                report_items=task.report.items,
            )
            for task in settings.tasks
        ),
        supernets=_supernets(study),
        searches=tuple(each.counts() for each in searched),
        timed_task=settings.timed,
        networks=tuple(answers.row(network) for network in study.networks),
        networks_on_report_items=networks_on_items(
            [study.history, *(search.history for search in study.searches)],
            [task.part("report") for task in settings.tasks],
        ),
        fronts=corrected(tuple(fronts)),
        selected=selected(answers, by_name),
        equal_size=corrected(equal_sizes(answers, beside)),
        int8=corrected(int8),
        depths=tuple(row for each in searched for row in each.depths()),
        narrow=tuple(row for each in searched for row in each.narrow()),
        heuristics=corrected(against_heuristics(answers, beside)),
        transfer=matrices,
        claims=claims,
        summary=summary(claims, margin),
        published=PUBLISHED,
        provenance=_provenance(study, answers),
        failures=tuple(_failures(study, answers, searched)),
    )


def _supernets(study: Study) -> tuple[StudiedSupernet, ...]:
    spaces = {search.supernet: search.plan.space for search in study.searches}
    tokens = {each.supernet: each.tuned_tokens for each in of_kind(study.networks, "dense")}
    whole = [each.architecture.depth for each in of_kind(study.networks, "base")]
    shown = []
    for supernet in study.settings.supernets:
        space = spaces.get(supernet.name)
        shown.append(
            StudiedSupernet(
                name=supernet.name,
                depths=space.depths if space else supernet.space.depths,
                mlp_widths=space.mlp_widths if space else supernet.space.mlp_widths,
                layers=space.network.depth if space else next(iter(whole), 0),
                depth_rule=" or ".join(supernet.space.depth_rules),
                networks=space.networks if space else None,
                tuned_tokens=tokens.get(supernet.name, 0),
            )
        )
    return tuple(shown)


def _provenance(study: Study, answers: StudyAnswers) -> tuple[tuple[str, str], ...]:
    settings = study.settings
    searches = {search.supernet: search for search in study.searches}
    origins = dict[str, str]()
    for history in (study.history, *(search.history for search in study.searches)):
        origins = {**history.about().get("origins", {}), **origins}
    made = [
        (f"{name}: {what}", str(value))
        for name, search in searches.items()
        for what, value in search.history.about().get("provenance", {}).items()
    ]
    measured = next((each for network in study.networks for each in answers.measurements(network).values()), None)
    rows = [
        ("Base model", settings.model + (f" ({_base_digest(study)})" if _base_digest(study) else "")),
        *((f"Super-network {name}", search.plan.supernet.digest) for name, search in searches.items()),
        *((f"Origin of {what}", str(origin)) for what, origin in origins.items()),
        *made,
        ("Strategy", f"{settings.search.strategy}, {proceeding(settings.search)}"),
        *(
            (f"Strategy over {supernet.name}", f"{own.strategy}, {proceeding(own)}, seed {own.seed}")
            for supernet in settings.supernets
            if (own := supernet.search) is not None
        ),
        ("Objectives", ", ".join(settings.objectives)),
        ("Margin", f"{settings.reporting.margin:g} points"),
        ("Seeds", f"search {settings.search.seed}, baselines {settings.seed}"),
        ("Calibration", f"{settings.calibration.tokens} tokens of {settings.calibration.data}"),
        ("Data type of the computation", study.dtype),
    ]
    if measured is not None:
        rows += [
            (f"Version of {name}" if name != "device" else "Device", value) for name, value in measured.versions.items()
        ]
    rows += _item_digests(study, answers)
    return tuple(rows)


def _base_digest(study: Study) -> str | None:
    return next((each.checkpoint.digest for each in of_kind(study.networks, "base")), None)


def _item_digests(study: Study, answers: StudyAnswers) -> list[tuple[str, str]]:
    """What the items are of each task, of the first network that was measured on it."""
    found: dict[str, str] = {}
    for network in study.networks:
        for measurement in answers.measurements(network).values():
            for scores in measurement.scores:
                found.setdefault(scores.task, scores.items_digest)
    return [(f"Items of {task}, digest", digest) for task, digest in found.items()]


def _failures(study: Study, answers: StudyAnswers, searched: Sequence[Searched]) -> list[str]:
    """One line each."""
    lines = []
    for each in searched:
        name = f"search over {each.search.supernet} by {each.search.chosen_on}"
        lines += [each.problem] if each.problem else []
        lines += [f"{name}: {failure}" for failure in (each.report.failures if each.report else ())]
    lines += study.failed
    for network in study.networks:
        lines += answers.failures(network)
        lines += answers.failures(network, "int8")
        missing = [task for task in study.tasks_of(network) if study.outcome(network, task) is None]
        lines += [f"{label(network)}: not measured yet on {', '.join(missing)}"] if missing else []
    expected = [(supernet.name, on) for supernet in study.settings.supernets for on in study.settings.searched]
    there = {(each.search.supernet, each.search.chosen_on) for each in searched}
    lines += [f"search over {name} by {on}: not finished yet" for name, on in expected if (name, on) not in there]
    return lines
