# Every target stands on `install`; nothing outside this folder is changed. `make` alone lists the targets.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-for-demos
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed
BARE := .venv-bare
# How many processes run the tests: one for each core, at most eight, which take 2 GB each.
WORKERS ?= logical
PYTEST = $(BIN)/python -m pytest --numprocesses=$(WORKERS) --maxprocesses=8 --dist=worksteal
# Older releases of PEFT, each with the transformers that a program which pins it takes, and the last torchao it knows.
PEFTS := 0.18 0.19 0.20
PEFT_0.18 := peft==0.18.1 transformers==5.6.0 torchao==0.17.0
PEFT_0.19 := peft==0.19.1 transformers==5.6.0 torchao==0.17.0
PEFT_0.20 := peft==0.20.0 transformers==5.19.0 torchao==0.17.0
# Releases of Triton that the kernels for GPUs are held to, each with a NumPy that its interpreter reads.
TRITONS := 3.6 3.9
TRITON_3.6 := triton==3.6.0 numpy==2.3.5
TRITON_3.9 := triton==3.9.0 numpy==2.4.6
# The first interpreter that is there and new enough; `make PYTHON=/path/to/python install` names another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.10 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo "$$python" && break; done)
VLLM_PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

.DEFAULT_GOAL := help
.PHONY: help install quickstart fleet-demo serve-demo test test-fast test-faults check format bench docs clean install-vllm test-vllm test-bare test-peft test-gpu-kernels test-integrations release-check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the package, every extra and the tools; done again only if the requirements change

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the package with every extra and the tools of developers into $(VENV): 2.5 GB on the disk"
	@$(PIP_INSTALL) -e '.[all,dev]'
	@touch $(DEMO_STAMP) $@

# What the demos need alone. It is part of what `install` installs, which may come before or after.
$(DEMO_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the package and what the demos need into $(VENV): downloads 380 MB"
	@$(PIP_INSTALL) -e '.[train,compare]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.10 found; use make PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV)

quickstart: $(DEMO_STAMP) ## fine-tune a real model on real data in four ways, and compare (about 5 minutes)
	@$(BIN)/fourierft quickstart

fleet-demo: $(DEMO_STAMP) ## train twelve adapters of one model together, and ask all of them in one batch (about 5 minutes)
	$(BIN)/fourierft fleet demo

.PHONY: web-demo
web-demo: install fleet-demo ## a page in which the twelve critics answer in your browser; then `python -m http.server --directory web-demo`
	test -d web-demo || $(BIN)/fourierft export web fleet-demo/fleet.db web-demo

serve-demo: install install-vllm ## train three dictionaries, serve them, and ask them what one word means (about 6 minutes)
	$(BIN)/fourierft fleet dictionaries --output_dir serve-demo
	VLLM_CPU_KVCACHE_SPACE=1 $(VLLM)/bin/fourierft serve serve-demo/base --store serve-demo/fleet.db --vllm="--dtype float32 --max-model-len 512" \
		--ask cool --of noun verb adjective base

test: install ## run all tests (about 12 minutes on 2 cores); WORKERS=0 runs them in one process
	$(PYTEST)

test-fast: install ## run the tests of the edit loop, without the files named in tests/slow.txt (under 2 minutes on 2 cores)
	$(PYTEST) $(addprefix --ignore=,$(shell grep -v '^\#' tests/slow.txt))

test-faults: install ## attack store and server at length: kills, damage, hostile requests (about 20 minutes); FAULTS_SEED=n for others
	FAULTS=long $(BIN)/python -m pytest tests/faults

check: install ## what has to pass before a change goes in: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: install ## write the code the way `check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install-vllm: $(VLLM_STAMP) ## make .venv-vllm, an environment of its own with vLLM for a CPU, to serve with

$(VLLM_STAMP): requirements-vllm.txt pyproject.toml
	@test -n "$(VLLM_PYTHON)" || { echo "no Python >= 3.11 found; use make VLLM_PYTHON=/path/to/python3" >&2; exit 2; }
	test -x $(VLLM)/bin/python || "$(VLLM_PYTHON)" -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm.txt
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

test-vllm: install-vllm ## run the tests that need vLLM
	$(VLLM)/bin/python -m pytest tests/serving/vllm

test-bare: install ## try every command on a wheel without extras, in .venv-bare, and all imports with each extra alone
	test -x $(BARE)/bin/python || "$(PYTHON)" -m venv $(BARE)
	$(BARE)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt . pytest
	$(BARE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	$(BARE)/bin/pytest tests/bare
	$(BIN)/python tests/bare/alone.py

test-peft: $(addprefix test-peft-,$(PEFTS)) ## run the tuner's tests, and PEFT's, with each older PEFT, in .venv-peft-* (20 minutes)

test-peft-%: .venv-peft-%/.installed
	.venv-peft-$*/bin/python -m pytest tests/tuner

.PRECIOUS: .venv-peft-%/.installed
.venv-peft-%/.installed: pyproject.toml constraints.txt Makefile
	test -x $(@D)/bin/python || "$(PYTHON)" -m venv $(@D)
	grep -vE '^(peft|transformers|tokenizers|huggingface_hub|torchao|datasets)==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt $(PEFT_$*) \
		-e '.[quantized]' datasets diffusers hypothesis pytest
	@touch $@

# Tools of others, each in an environment of its own at the versions it pins, with a wheel of this package.
TOOLS := swift llamafactory axolotl others
TOOL_PYTHON_swift = $(PYTHON)
TOOL_PYTHON_llamafactory = $(PYTHON)
TOOL_PYTHON_others = $(PYTHON)
TOOL_PYTHON_axolotl ?= $(shell for python in python3.12 python3.13 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo "$$python" && break; done)

test-integrations: $(addprefix test-integration-,$(TOOLS)) ## train with the commands of other tools, each in .venv-integration-* (10 minutes)

test-integration-%: .venv-integration-%/.installed
	.venv-integration-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 .venv-integration-$*/bin/python -m pytest tests/integrations

.PRECIOUS: .venv-integration-%/.installed
.venv-integration-%/.installed: tests/integrations/requirements/%.txt
	@test -n "$(TOOL_PYTHON_$*)" || { echo "no Python new enough found; use make TOOL_PYTHON_$*=/path/to/python3" >&2; exit 2; }
	test -x $(@D)/bin/python || "$(TOOL_PYTHON_$*)" -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	rm -f $(@D)/lib/python3*/site-packages/torchaudio/lib/*.so  # made for CUDA: it goes without them, not with them
	@touch $@

test-gpu-kernels: $(addprefix test-triton-,$(TRITONS)) ## run the kernels for GPUs in Triton's interpreter, and compile them; no GPU is needed

test-triton-%: .venv-triton-%/.installed
	.venv-triton-$*/bin/python -m pytest tests/spectral/triton

.PRECIOUS: .venv-triton-%/.installed
.venv-triton-%/.installed: pyproject.toml constraints.txt Makefile
	test -x $(@D)/bin/python || "$(PYTHON)" -m venv $(@D)
	grep -vE '^numpy==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt $(TRITON_$*) torch pytest pyyaml hypothesis
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

bench: install ## measure speed and memory on this machine, and make the page of it
	$(BIN)/python -m lab bench
	$(BIN)/python -m lab bench --page

docs: install ## make docs/performance.md from the results, then check the links and examples of all pages
	$(BIN)/python -m lab bench --page
	$(BIN)/python -m pytest tests/test_docs.py

# The wheel is unpacked and found before the package of this checkout.
.PHONY: test-pages
test-pages: install ## run every block of every page as a reader would, from a wheel (3 minutes)
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m zipfile -e build/wheel/fourierft-*.whl build/wheel/package
	PAGES_PACKAGE=$(CURDIR)/build/wheel/package $(BIN)/python -m pytest tests/pages

# The site's tools stand beside the package, whose parsers and docstrings they read.
.PHONY: site
site: $(VENV)/.site ## build the documentation as a site into site/; a broken link stops it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

$(VENV)/.site: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

release-check: $(BIN)/python ## try a release from a fresh clone: archives, tests from the source archive, a bare install, the site (15 minutes)
	.ci/release $(BIN)/python

clean: ## remove what the tools leave behind; .venv, results and trained adapters stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	find src tests lab -name __pycache__ -type d -prune -exec rm -rf {} +
