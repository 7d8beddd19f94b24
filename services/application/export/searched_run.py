"""A run whose networks are exported: its front as its report has it. Loads no model."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from services.application.run_directory import RunDirectory, is_study
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan, plan_of
from services.coordinator.results import evaluated_so_far, front
from services.reporting.assemble import assemble
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_data import NetworkRow, ReportContent
from shared.errors import UserError
from shared.messages import EvaluationRequest, Measurement


@dataclass(frozen=True)
class SearchedRun:
    """A run that has measured something: its plan, and what its report says, or would say if it were written now;
    `missing` says why there is no report yet, in which case there is no content."""

    directory: RunDirectory
    plan: SearchPlan
    content: ReportContent | None
    missing: str = ""

    @classmethod
    def read(cls, path: Path) -> "SearchedRun":
        """Raises UserError where there is no such run, or it has no history yet."""
        if is_study(path):
            raise UserError(f"{path}: is a study, which exports nothing; give one of the runs in {path / 'searches'}")
        run = RunDirectory(path)
        settings = run.settings()
        if not run.history.is_file():
            raise UserError(f"{path}: no front yet, as nothing was searched; run `nasfarm search` to the end")
        with closing(History.read(run.history)) as history:
            plan = plan_of(history, settings)
            try:
                content = assemble(plan, history, front(evaluated_so_far(plan, history)))
            except UserError as error:
                return cls(run, plan, None, str(error))
        return cls(run, plan, content)

    @property
    def name(self) -> str:
        """The run's name, that of its directory."""
        return self.directory.path.resolve().name

    @property
    def report(self) -> ReportContent:
        """What its report says. Raises UserError if it has none yet."""
        if self.content is None:
            raise UserError(f"{self.directory.path}: no front yet ({self.missing})")
        return self.content

    def answers(self, requests: Sequence[EvaluationRequest]) -> list[ItemAnswers | None]:
        """What networks answered that the run measured; None for each that it did not."""
        with closing(History.read(self.directory.history)) as history:
            outcomes = [history.outcome(request.identity) for request in requests]
        metrics = self.plan.settings.metrics
        return [ItemAnswers.of(each, metrics) if isinstance(each, Measurement) else None for each in outcomes]

    @property
    def networks(self) -> tuple[NetworkRow, ...]:
        """Those that have names to be exported by: the front, the whole super-network, and their INT8 twins. Raises
        UserError if there are none yet."""
        content = self.report
        return (*content.front, content.dense, *content.int8)
