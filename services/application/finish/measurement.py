"""The networks that a finished one is compared with, and itself, on the report items of its run: what the run measured
is taken from there, the rest is measured here, each once."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from services.application.evaluation import evaluated
from services.application.export.searched_run import SearchedRun
from services.application.finish.record import Answers, FinishedResults
from services.coordinator.history import History
from services.evaluator.evaluator import Evaluator
from services.evaluator.tasks.index import include_tasks
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_item_use import record_use_by_finished
from shared.architecture import Architecture, dense
from shared.errors import UserError
from shared.events import Events
from shared.files import user_path
from shared.messages import CheckpointRef, EvaluationRequest, Failure, Measurement
from shared.network.shape import NetworkShape
from shared.settings import metrics_by_task

USED_BEFORE = "networks on report items before"


@dataclass(frozen=True)
class FinishMeasurements:
    """Measures for one finished network; what it measures is kept in the file `kept` until all of it is there, and
    `asked` are the identities of what was measured besides the run."""

    run: SearchedRun
    supernet: CheckpointRef
    evaluator: Evaluator
    kept: Path
    events: Events
    asked: list[str] = field(default_factory=list)

    def check_tasks(self) -> None:
        """Read the report items now, so that nothing is found wrong with them after an hour of fine-tuning. Raises
        UserError where they aren't at hand."""
        settings = self.run.plan.settings
        if settings.include_path is not None:
            include_tasks(user_path(settings.include_path))
        with self.events.step("Tasks", note="reading"):
            for task in settings.tasks:
                self.evaluator.prepared(self.supernet, task.part("report"))

    def results(
        self, name: str, architecture: Architecture, made: CheckpointRef, shape: NetworkShape
    ) -> tuple[Answers, FinishedResults]:
        """Of the finished network, `made`, which is measured in INT8 where `architecture`, what it was before, is; of
        that, and of the dense and the base network. Raises UserError where one of them can't be measured."""
        plan = self.run.plan
        whole = dense(shape).quantized(architecture.quantization)
        request = EvaluationRequest(
            search=plan.settings.name,
            checkpoint=made,
            architecture=whole,
            spec=plan.settings.spec("report", plan.dtype).computing(whole, plan.int8_version),
        )
        known = self.run.answers([plan.base_request("report")])[0]
        with closing(self._history(made)) as history:
            history.note(USED_BEFORE, self.run.report.networks_on_report_items)  # once: this one is going to count too
            used_before: int = history.about()[USED_BEFORE]
            finished = self._measured(request, f"{name}, finished", history)
            before = self._of_run(plan.request(architecture, "report"), f"{name}, as it was", finished, history)
            of_dense = self._of_run(plan.request(dense(plan.space.network), "report"), "dense", finished, history)
        answers = Answers(finished, before, of_dense, known if known and finished.on_same_items(known) else None)
        return answers, answers.results(used_before)

    def count_use(self) -> str | None:
        """Note in the run's history that its report items were used again, which its report counts; why that can't be,
        in words, or None. Nothing else of the run is changed."""
        directory = self.run.directory
        try:
            with closing(History.read(directory.history)) as history:
                recipe = history.about()["recipe"]
            with (
                directory.claimed(),
                closing(History.create_or_resume(directory.history, {"recipe": recipe})) as history,
            ):
                record_use_by_finished(self.asked, history)
        except (UserError, PermissionError) as error:
            return str(error)
        return None

    def _history(self, made: CheckpointRef) -> History:
        recipe = {"run": self.run.plan.supernet.digest, "finished": made.digest}
        return History.create_or_resume(self.kept, {"recipe": recipe}, metrics_by_task(self.run.plan.settings.tasks))

    def _of_run(self, request: EvaluationRequest, what: str, finished: ItemAnswers, history: History) -> ItemAnswers:
        """What the run knows, unless the items have changed since."""
        (known,) = self.run.answers([request])
        if known is not None and finished.on_same_items(known):
            return known
        return self._measured(request.model_copy(update={"checkpoint": self.supernet}), what, history)

    def _measured(self, request: EvaluationRequest, what: str, history: History) -> ItemAnswers:
        self.asked.append(request.identity)
        outcome = history.outcome(request.identity)
        if not isinstance(outcome, Measurement):
            outcome = evaluated(self.evaluator, request, self.events, what).outcome
            if isinstance(outcome, Failure):
                raise UserError(
                    f"{what}: can't be measured ({outcome.reason}); what was made is kept: the same command goes on"
                )
            history.add_results([(request, outcome)])
        return ItemAnswers.of(outcome, self.run.plan.settings.metrics)
