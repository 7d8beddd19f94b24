import importlib.util

# `make test-vllm` has an environment with vLLM; elsewhere there is nothing to collect here.
collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("vllm") is None else []
