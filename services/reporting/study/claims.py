"""The paper's claims judged, by the rules of `services.reporting.study.claim_rules`."""

from collections.abc import Sequence
from dataclasses import replace

from services.coordinator.study.networks import StudyNetwork
from services.reporting.study.answers import StudyAnswers, label
from services.reporting.study.claim_cases import ClaimCases
from services.reporting.study.claim_rules import LEVEL, Case, Evidence, better, fits, lost
from services.reporting.study.claim_wording import (
    evidence_text,
    power_to_bound,
    power_to_differ,
    sentence,
    transfer_evidence,
)
from services.reporting.study.compared import Beside
from services.reporting.study.corrections import corrected
from services.reporting.study.faster import faster
from services.reporting.study.study_data import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    StudyFront,
    Transfer,
    TransferCell,
    Verdict,
)


def judge(
    answers: StudyAnswers, beside: Beside, transfers: Sequence[Transfer], fronts: Sequence[StudyFront], margin: float
) -> tuple[Claim, ...]:
    """All claims, super-network by super-network; `transfers` with corrected p-values, `margin` as a share."""
    settings, claims = answers.study.settings, list[Claim]()
    cases = [case for supernet in settings.supernets for case in ClaimCases(answers, beside, supernet.name).all()]
    family = tuple(each.shown for case in cases for each in case.evidence)
    shown = iter(corrected(family))
    cases = [
        replace(case, evidence=tuple(replace(each, shown=next(shown)) for each in case.evidence)) for case in cases
    ]
    for supernet in settings.supernets:
        claims += [_judged(case, margin, len(family)) for case in cases if case.supernet == supernet.name]
        timed = [front for front in fronts if front.supernet == supernet.name and front.timed]
        claims += [faster(beside, front, settings.sizes) for front in timed]
        claims.append(no_single_network(answers, beside, supernet.name, transfers, margin))
    return tuple(claims)


def no_single_network(
    answers: StudyAnswers, beside: Beside, supernet: str, transfers: Sequence[Transfer], margin: float
) -> Claim:
    """The third rule; `transfers` are the matrices of all super-networks, whose p-values are corrected together."""
    fitting, failing, undecided, compared = list[str](), list[str](), list[str](), list[Evidence]()
    matrices = [each for each in transfers if each.supernet == supernet]
    confidence = 1 - LEVEL / max(1, sum(len(matrix.chosen_on) for matrix in matrices))
    for matrix in matrices:
        for on in matrix.chosen_on:
            chosen = beside.chosen(supernet, on, matrix.times_smaller)
            elsewhere = [task for task in matrix.tasks if task != on]
            found = [_transferred(answers, beside, chosen, matrix.cell(on, task), matrix) for task in elsewhere]
            known = [each for each in found if each is not None]
            compared += known
            name = label(chosen) if chosen else f"chosen on {on}"
            if known and len(known) == len(elsewhere) and all(fits(each, confidence, margin) for each in known):
                fitting.append(name)
            elif any(lost(each.shown) and each.may_lose for each in known):
                failing.append(name)
            else:
                undecided.append(name)
    verdict: Verdict = OPEN
    if fitting:
        verdict = FAILS
    elif failing and not undecided:
        verdict = HOLDS
    family = sum(cell.versus_own is not None for matrix in transfers for cell in matrix.cells)
    detectable = max((each.difference.detectable(LEVEL / family) for each in compared), default=None)
    power, shown = power_to_differ(detectable, family), tuple(each.shown for each in compared)
    return Claim(
        key="no-single-network",
        statement="No one network is good for all tasks: each task needs a search of its own",
        supernet=supernet,
        verdict=verdict,
        evidence=transfer_evidence(fitting, failing, shown, margin, len(fitting) + len(failing) + len(undecided))
        + (sentence(power) if verdict == OPEN else ""),
        comparisons=shown,
        power=power,
        detectable=detectable,
    )


def _judged(case: Case, margin: float, family: int) -> Claim:
    """`family`: the number of comparisons whose p-values are corrected together."""
    verdict = case.rule(case, margin)
    fair = [each.difference for each in case.evidence if each.may_win and each.may_lose]
    detectable = smallest_margin = None
    if case.rule is better:
        detectable = max((each.detectable(LEVEL / family) for each in fair), default=None)
        power = power_to_differ(detectable, family)
    else:
        smallest_margin = max((each.smallest_margin for each in fair), default=None)
        power = power_to_bound(smallest_margin)
    return Claim(
        key=case.key,
        statement=case.statement,
        supernet=case.supernet,
        verdict=verdict,
        evidence=evidence_text(case, verdict, power),
        comparisons=tuple(each.shown for each in case.evidence),
        power=power,
        detectable=detectable,
        smallest_margin=smallest_margin,
    )


def _transferred(
    answers: StudyAnswers, beside: Beside, chosen: StudyNetwork | None, cell: TransferCell, matrix: Transfer
) -> Evidence | None:
    """The network of a row of the matrix against the one that was chosen on the column's task."""
    own = beside.chosen(matrix.supernet, cell.task, matrix.times_smaller)
    if chosen is None or own is None or cell.versus_own is None:
        return None
    difference, sizes = (
        answers.difference(chosen, own, cell.task),
        (answers.parameters(chosen), answers.parameters(own)),
    )
    if difference is None or not sizes[0] or not sizes[1]:
        return None
    return Evidence(difference, cell.versus_own, sizes[0] / sizes[1] - 1)
