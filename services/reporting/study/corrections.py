"""The p-values of a study, corrected for the number of comparisons."""

from collections.abc import Callable
from typing import Any, TypeVar

from services.reporting.report_data import ReportModel
from services.reporting.statistics.multiple_testing import holm
from services.reporting.study.study_data import StudyComparison

Part = TypeVar("Part")


def corrected(part: Part) -> Part:
    """A table of the study, whatever it is made of, with the p-values of its comparisons corrected as one family."""
    found: list[StudyComparison] = []

    def seen(each: StudyComparison) -> StudyComparison:
        found.append(each)
        return each

    _mapped(part, seen)
    values = iter(holm([each.p_value for each in found]))
    result: Part = _mapped(part, lambda each: each.model_copy(update={"corrected": next(values)}))
    return result


def _mapped(part: Any, function: Callable[[StudyComparison], StudyComparison]) -> Any:
    """The same with every comparison replaced, always in the same order."""
    if isinstance(part, StudyComparison):
        return function(part)
    if isinstance(part, tuple):
        return tuple(_mapped(each, function) for each in part)
    if isinstance(part, ReportModel):
        fields = type(part).model_fields
        return part.model_copy(update={name: _mapped(getattr(part, name), function) for name in fields})
    return part
