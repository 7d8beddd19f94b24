"""The preparation of a search on the terminal, or in a file: lines, and steps that take long with their progress."""

from services.application.search_events import CostEstimated, FineTuningEstimated, SpaceDescribed
from services.cli.console import console, duration
from services.cli.display import Display
from services.cli.progress_bars import ProgressView, stage
from services.cli.search_summary import print_cost, print_space
from services.reporting.wording import size
from shared.events import Event, Noted, StepAdvanced, StepBegan, StepEnded

SUBJECT_WIDTH = 15


class PreparationDisplay(Display):
    """Subscriber that shows what is said before anything is measured."""

    _step: ProgressView

    def __call__(self, event: Event) -> None:
        match event:
            case Noted():
                console.print(f"{event.subject:<{SUBJECT_WIDTH}}{event.text}")
            case StepBegan():
                shown = size if event.unit == "bytes" else "{:,}".format
                self._step = self.shown.enter_context(stage(event.name, event.total, event.note, shown))
            case StepAdvanced():
                self._step.reach(event.done, event.note)
            case StepEnded():
                self.shown.close()
            case SpaceDescribed():
                print_space(event.space, event.dtype)
            case CostEstimated():
                print_cost(event.settings, event.networks, event.estimate, event.fine_tunes)
            case FineTuningEstimated():
                console.print(f"{'Fine-tuning':<{SUBJECT_WIDTH}}about {duration(event.seconds)}")
