"""What must outlive the process, written into the history: the first subscriber of a search's events."""

from services.coordinator.history import History
from shared.events import CandidatesChosen, Event, GenerationDone, ResultsReceived


class HistoryRecorder:
    """Stores candidates, results and generations before any other subscriber is told of them. Raises UserError where
    the history can't be written: then nothing happened."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __call__(self, event: Event) -> None:
        match event:
            case CandidatesChosen():
                self._history.add_candidates(event.generation, event.candidates, event.known)
            case ResultsReceived():
                self._history.add_results(event.results)
            case GenerationDone():
                self._history.add_generation(event.row)
