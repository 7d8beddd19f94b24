"""Other libraries' chatter, kept off the terminal: they are loud about what is no concern of the user."""

import logging

import datasets
import transformers


def quiet_libraries() -> None:
    """Silence progress bars and warnings of the libraries that the command uses; errors are still shown."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for name in ("lm_eval", "datasets", "huggingface_hub", "filelock", "httpx", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
