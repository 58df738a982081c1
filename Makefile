# Every command of the project; `make help` lists them. CI runs the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
LINKS := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
# TORCH=cpu takes the build of torch without CUDA. The lock accepts this one and the index's own.
BACKEND := $(if $(TORCH),--torch-backend $(TORCH))
UV_VERSION := 0.13.9
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help image install run demo test test-unit test-cluster lint bench compile doctor down lock golden clean

help: ## list every command
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## create .venv and install requirements.lock; TORCH=cpu: without CUDA

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# Compiled now: where PYTHONDONTWRITEBYTECODE is set, each process of a run would compile what it imports, for minutes.
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python $(LINKS) $(BACKEND) -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

data/sample.csv: | install
	@$(BIN)/tokka sample --out $@

run: install data/sample.csv ## specialise a model on the synthetic sample and serve it
	@$(BIN)/tokka run

demo: install ## the life of a model: first version, traffic, drift, retraining, a bad model rolled back
	@$(BIN)/tokka demo

test: install lint ## every check and every test
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 10 --ignore tests/cluster --ignore tests/image

test-cluster: install ## tests on the cluster of KUBECONFIG; tests/cluster/conftest.py says what else they take
	@$(BIN)/python -m pytest tests/cluster -rsfE --durations 10

test-image: install ## tests of the images that `make image TAG=…` has built
	@TOKKA_TEST_TAG=$(TAG) $(BIN)/python -m pytest tests/image -rsfE -s --durations 5

test-unit: install ## the unit tests alone, in seconds
	@$(BIN)/python -m pytest tests/unit -m "not slow"

lint: install ## style, types and the direction of imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/lint-imports --no-logo 2>/dev/null && $(BIN)/mypy

bench: install ## every benchmark, one after the other
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

compile: install ## the IR files for Kubeflow
	@$(BIN)/tokka compile

doctor: install ## look at everything that a run needs
	@$(BIN)/tokka doctor

image: ## both container images, their sizes and an SBOM beside each; infra/docker/build.sh lists the variables
	@UV_VERSION=$(UV_VERSION) infra/docker/build.sh

down: ## stop the local stack
	@test ! -x $(BIN)/tokka || $(BIN)/tokka down

golden: install ## refresh the golden files under tests/golden
	@TOKKA_REFRESH_GOLDEN=1 $(BIN)/python -m pytest tests/pipelines

lock: ## resolve pyproject.toml anew into requirements.lock
	@PATH="$(BIN):$$PATH" $(BIN)/python infra/lock.py "$(PIP_FIND_LINKS)"

clean: down ## remove the virtual environment, runtime state and build outputs
	rm -rf $(VENV) .tokka build data/sample.csv
