"""Which of lm-eval's kinds of task can be scored: those that are answered by log-likelihoods alone."""

from lm_eval.api.task import ConfigurableTask, Task

from shared.errors import UserError

SCORED = ("multiple_choice", "loglikelihood_rolling")


def require_scorable(task: Task) -> None:
    """Raise UserError for a task that has to generate, to look or to listen, or is a program of its own."""
    if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE not in SCORED or hasattr(task, "MULTIMODAL"):
        name = getattr(task.config, "task", None) or type(task).__name__
        raise UserError(
            f"tasks.{name}: its kind is {_kind(task)}; choose a task that is multiple-choice or rolling log-likelihood "
            "(perplexity), only those can be scored"
        )


def _kind(task: Task) -> str:
    if not isinstance(task, ConfigurableTask):
        return "a class in Python"
    return "multimodal" if task.OUTPUT_TYPE in SCORED else str(task.OUTPUT_TYPE)
