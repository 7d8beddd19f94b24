"""Other libraries' chatter, kept off the terminal: they are loud about what is no concern of the user."""

import logging
from typing import Any

import datasets
import tqdm
import transformers
from huggingface_hub.utils.tqdm import disable_progress_bars


def quiet_libraries() -> None:
    """Silence progress bars, notes and warnings of the libraries that the command uses; errors are still shown. A
    service's log still has their warnings."""
    datasets.disable_progress_bars()
    disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    tqdm.tqdm.__init__ = _unseen  # bars that their libraries have no switch for
    for name in ("lm_eval", "datasets", "huggingface_hub", "filelock", "httpx", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(True)  # what is logged by others is not shown, see services.cli.notes


_seen = tqdm.tqdm.__init__


def _unseen(self: tqdm.tqdm, *arguments: Any, **options: Any) -> None:
    _seen(self, *arguments, **{**options, "disable": True})
