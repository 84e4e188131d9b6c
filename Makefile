# make demo   build a multi-stage example from nothing, show a cached rebuild
# make test   all tests, with everything they need
# make lint   ruff and mypy --strict
# make fuzz   Dockerfiles at random, until it is stopped; COUNT=n of them, SEED=n the first
# make bench  the figures of benchmarks/
VENV ?= .venv
PY = $(VENV)/bin/python
WORKERS ?= 2

.PHONY: demo test unit lint fuzz bench clean

demo:
	@.ci/packages demo
	@$(MAKE) -s $(VENV)/.run
	@PATH="$(abspath $(VENV))/bin:$$PATH" examples/demo/run.sh

test:
	@.ci/packages test
	@$(MAKE) -s $(VENV)/.dev
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup

# Without root and without a single Debian package.
unit: $(VENV)/.dev
	$(PY) -m pytest -n $(WORKERS) -m "not integration"

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

fuzz:
	@.ci/packages test
	@$(MAKE) -s $(VENV)/.dev
	$(PY) -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

bench: $(VENV)/.run
	PATH="$(abspath $(VENV))/bin:$$PATH" benchmarks/run.sh

$(VENV)/bin/python:
	@echo "Making a virtual environment in $(VENV)"
	python3 -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml
	@echo "Installing pybuild into $(VENV)"
	$(PY) -m pip install -q --disable-pip-version-check -e .
	@$(PY) -m compileall -q builder frontend runtime pybuild_main.py
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	@echo "Installing pybuild and the test tools into $(VENV)"
	$(PY) -m pip install -q --disable-pip-version-check -e ".[dev]"
	@$(PY) -m compileall -q builder frontend runtime pybuild_main.py
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
