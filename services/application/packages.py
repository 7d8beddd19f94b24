"""Packages that only those need who hold a model; where one is missing, what installs it is said in one line."""

MODELS = {
    "accelerate",
    "bitsandbytes",
    "datasets",
    "fsspec",
    "gguf",
    "huggingface_hub",
    "lm_eval",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
}
"""What the extra `models` of pyproject.toml brings."""
INSTALL = "pip install 'nasfarm[models]'"


def missing_package(error: ModuleNotFoundError) -> str:
    """The package of MODELS that an import didn't find. Raises the error again if it is about anything else."""
    package = (error.name or "").partition(".")[0]
    if package not in MODELS:
        raise error
    return package
