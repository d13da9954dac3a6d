# Needs only make, a Python from 3.11 on, and (for full speed) a C compiler. Everything goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
BENCH_ARGS ?=
FUZZ ?= 5000
# More extras to test with: peers are the libraries that the adapters are compared with.
EXTRAS ?=
# pytest's exit code where there is no test to run: not a failure.
NO_TESTS := 5

.PHONY: demo test deployments web docs bench fuzz clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/krypton-onnx demo -o demo.png

test: $(VENV)/.dev $(EXTRAS:%=$(VENV)/.extra-%)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --ignore tests/deployments || [ $$? -eq $(NO_TESTS) ]

# The ways into deployments, each by what it runs in: Node and a browser (Node and Chromium must be there, or those tests
# are skipped), the service, Ray. One after the other: they take all cores.
deployments: $(VENV)/.dev $(VENV)/.extra-web $(VENV)/.extra-serve $(VENV)/.extra-ray
	if command -v npm >/dev/null; then cd krypton_onnx/web/app && npm ci --silent && npm test --silent; \
	else echo "no npm: the page's own tests are left out"; fi
	$(BIN)/python -m pytest tests/deployments || [ $$? -eq $(NO_TESTS) ]

# The page of `krypton-onnx web`, built into the package by npm: a wheel that is made afterwards needs no Node.
web: $(VENV)/.dev $(VENV)/.extra-web
	$(BIN)/python -m krypton_onnx.web

# The site, into site/; a warning is an error.
docs: $(VENV)/.extra-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.demo
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

# FUZZ random models, other ones in every run, of which a failing one is shrunk and printed; and as many files with
# random damage.
fuzz: $(VENV)/.dev
	KRYPTON_FUZZ=$(FUZZ) $(BIN)/python -m pytest -q -s --hypothesis-show-statistics tests/test_random_models.py
	KRYPTON_FUZZ=$(FUZZ) $(BIN)/python -m pytest -q -n $(JOBS) tests/test_broken_models.py -k mutations

clean:
	rm -rf $(VENV) build site *.egg-info krypton_onnx/runtime/custom_ops/_shim.*

# One stamp for each set of extras: a second run installs nothing. The install is editable, so the stamps
# depend on what is built and declared, not on every source file.
INSTALLED_FROM := pyproject.toml setup.py krypton_onnx/runtime/custom_ops/shim.c

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(INSTALLED_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,demo]'
	touch $@

$(VENV)/.dev: $(INSTALLED_FROM) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,demo,dicom,report,dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.extra-%: $(INSTALLED_FROM) | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cpu,$*]'
	touch $@
