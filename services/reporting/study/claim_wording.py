"""Claims in words: their evidence, what so many items could have shown, and the summary."""

from collections.abc import Mapping, Sequence

from services.reporting import wording
from services.reporting.study.claim_rules import Case, Evidence, better
from services.reporting.study.study_data import ALL, FAILS, HOLDS, OPEN, Claim, StudyComparison, Verdict

NOTHING = "nothing is measured that could tell"
TITLES: Mapping[Verdict, str] = {HOLDS: "hold", FAILS: "do not hold", OPEN: "can't be told"}


def summary(claims: Sequence[Claim], margin: float) -> str:
    """What holds, what doesn't and what can't be told, a line for each super-network and verdict."""
    lines = []
    for supernet in dict.fromkeys(claim.supernet for claim in claims):
        mine = [claim for claim in claims if claim.supernet == supernet]
        for verdict, title in TITLES.items():
            said = [claim for claim in mine if claim.verdict == verdict]
            if said:
                unknown = verdict == OPEN
                parts = (f"{claim.statement}{f' ({claim.power or NOTHING})' if unknown else ''}" for claim in said)
                lines.append(
                    f"Super-network {supernet}: {len(said)} of {len(mine)} claims {title}: {'; '.join(parts)}."
                )
    if claims:
        lines.append(
            f"The margin of {points_in_words(100 * margin)} was fixed before anything was measured; p-values are "
            "corrected for the number of comparisons."
        )
    return "\n\n".join(lines)


def power_to_differ(detectable: float | None, family: int) -> str:
    """What so many items could have shown by the first rule."""
    if detectable is None:
        return ""
    return (
        f"with this many items only true differences from {_plain(detectable)} points on would probably show after the "
        f"correction for {family} {'comparison' if family == 1 else 'comparisons'}"
    )


def power_to_bound(smallest_margin: float | None) -> str:
    """What so many items could have shown by the second rule."""
    if smallest_margin is None:
        return ""
    return (
        "the smallest margin that this many items would probably show for equally good networks is "
        f"{_plain(smallest_margin)} points"
    )


def sentence(power: str) -> str:
    """A phrase as a sentence that follows another; nothing of nothing."""
    return f" {power[:1].upper()}{power[1:]}." if power else ""


def evidence_text(case: Case, verdict: Verdict, power: str) -> str:
    """What a claim rests on."""
    parts = [_phrase(each, case.rule is better) for each in case.evidence]
    text = f"{'; '.join(parts)}." if parts else ""
    if verdict == OPEN:
        text += sentence(power)
    if not all(each.may_win for each in case.evidence):
        text += " What is larger than what it is compared with can't show that the claim holds."
    if not all(each.may_lose for each in case.evidence):
        text += " What is smaller can't show that it doesn't."
    if case.missing:
        text += f" Not measured: {', '.join(case.missing)}."
    return text.strip()


def _phrase(evidence: Evidence, of_superiority: bool) -> str:
    each, size = evidence.shown, ""
    if not (evidence.may_win and evidence.may_lose):
        more = "more" if evidence.larger > 0 else "fewer"
        size = f", with {abs(evidence.larger):.0%} {more} parameters,".replace("%", f"{wording.SPACE}%")
    where = "In the mean over tasks" if each.task == ALL else f"On {each.task}"
    sure = (
        f"{wording.points_interval(each.interval)}, corrected p {each.corrected:.2g}"
        if of_superiority
        else f"with 95 % confidence each above {wording.points(each.lower_bound)} and below "
        f"{wording.points(each.upper_bound)}"
    )
    return f"{where}, {each.one}{size} against {each.other}: {wording.points(each.difference)} points ({sure})"


def transfer_evidence(
    fitting: Sequence[str], failing: Sequence[str], compared: Sequence[StudyComparison], margin: float, number: int
) -> str:
    """What the claim about the transfer matrix rests on."""
    if not compared:
        return "Not measured."
    names = f" ({', '.join(fitting)})" if fitting else ""
    worst = min(compared, key=lambda each: each.difference)
    return (
        f"Of {number} chosen networks, {len(fitting)} are shown to lose at most {points_in_words(100 * margin)} on "
        f"every task against the one chosen there and be no larger{names}, and {len(failing)} others are shown to be "
        "worse on some task than one that is no larger. "
        f"The largest loss is {worst.one} on {worst.task}: {wording.points(worst.difference)} points "
        f"({wording.points_interval(worst.interval)}, corrected p {worst.corrected:.2g})."
    )


def points_in_words(points: float) -> str:
    """`2 points`, `1 point`."""
    return f"{points:g} {'point' if points == 1 else 'points'}"


def _plain(share: float) -> str:
    return f"{100 * share:.1f}"
