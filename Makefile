# The commands of this project; each makes the environment first where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# DVC runs `python -m stages.NAME`: it must find the environment's Python.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# On a terminal pip and uv show their progress; a log gets their errors only.
QUIET := $(shell test -t 2 || echo --quiet)

.PHONY: help environment gpu cluster s3 onnx demo repro app experiments backbones screenshots bench test test-all soak lint format requirements clean

help:
	@echo "make environment  .venv, with all that the pipeline needs (the others make it too)"
	@echo "make gpu          TensorFlow with CUDA, beside it"
	@echo "make cluster      Ray, for the features stage on a cluster"
	@echo "make s3           what images in S3 and a DVC remote there need"
	@echo "make onnx         what tools.export --format onnx needs"
	@echo "make demo         the whole pipeline on drawn images: no account, no data, a minute"
	@echo "make repro        the real thing: download HAM10000 from Kaggle, train, evaluate, report (dvc repro)"
	@echo "make app          a page to try the model on (PORT=7860); after make demo that of drawn images"
	@echo "make experiments  the experiments so far, the best first"
	@echo "make backbones    train on each of $(BACKBONES), and compare them"
	@echo "make screenshots  pictures of the report and of the page of make app, on a phone and a desktop (needs Chromium)"
	@echo "make bench        measure how fast all of it is, against what (half an hour, nothing else running)"
	@echo "make test         the fast tests: five minutes"
	@echo "make test-all     all tests: forty minutes"
	@echo "make soak         kill and interrupt every stage at random, 20 times each (ROUNDS=20 MINUTES=90)"
	@echo "make lint         check style and types"

# DVC runs `python -m stages.NAME`, which must be the environment's Python where nobody has activated it: Python reads
# the .pth files of its environment as it starts, and runs their lines that begin with import.
COMMANDS_FIRST := import os, sys; os.environ["PATH"] = os.pathsep.join(dict.fromkeys([os.path.join(sys.prefix, "bin"), *os.environ.get("PATH", os.defpath).split(os.pathsep)]))

# uv installs several times faster than pip; both stay inside the environment. Compiled now, the libraries start twice
# as fast in the first run, and in every run where Python may not write its cache.
$(BIN)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, this is " + sys.version) if not (3, 11) <= sys.version_info < (3, 14) else None'
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "commands_first.pth").write_text(sys.argv[1] + "\n")' '$(COMMANDS_FIRST)'
	$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check uv
	$(BIN)/uv pip install $(QUIET) --compile-bytecode --python $(BIN)/python -r requirements.txt
	@touch $@

# What some need beside it: those who change the code (dev), who measure it against other engines (bench), a GPU, a
# cluster, images in S3, ONNX, the page to try the model on, and its image (serve), which has nothing else.
EXTRAS := gpu cluster s3 onnx app serve dev bench
$(BIN)/.installed-%: requirements-%.txt $(BIN)/.installed
	$(BIN)/uv pip install $(QUIET) --compile-bytecode --python $(BIN)/python -r $<
	@touch $@

environment: $(BIN)/.installed

gpu cluster s3 onnx: %: $(BIN)/.installed-%

demo: $(BIN)/.installed
	@$(BIN)/python -m tools.demo

repro: $(BIN)/.installed
	$(BIN)/dvc repro

PORT ?= 7860
app: $(BIN)/.installed-app
	@$(BIN)/python -m apps.web --port $(PORT)

# What fits a terminal: DVC leaves out columns from the right, which here are the params that differ.
experiments: $(BIN)/.installed
	@$(BIN)/dvc exp show --no-pager --only-changed --sort-by test.balanced_accuracy --sort-order desc \
	  --keep 'test.(acc|bal|macro_f1)' --drop '[^E.]+$$|Exec|.*/|(eval|validation|test|classes)\.|train.(acc|loss)'

# One queued experiment for each, of its name; an older one of the same name is removed.
BACKBONES := InceptionResNetV2 DenseNet121 ConvNeXtSmall
backbones: $(BIN)/.installed
	@set -e; for name in $(BACKBONES); do \
	  if $(BIN)/dvc exp list --all-commits --name-only | grep --quiet --line-regexp "$$name"; then \
	    $(BIN)/dvc exp remove "$$name"; \
	  fi; \
	  $(BIN)/dvc exp run --queue --name "$$name" -S backbone.name="$$name"; \
	done
	$(BIN)/dvc exp run --run-all
	@$(BIN)/python -m tools.compare $(BACKBONES)

screenshots: $(BIN)/.installed-dev
	$(BIN)/python -m tools.screenshots

bench: $(BIN)/.installed-bench
	$(BIN)/python -m benchmarks

test: $(BIN)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(BIN)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Kill and interrupt every stage at random moments: ROUNDS of each, begun within MINUTES.
ROUNDS ?= 20
MINUTES ?= 90
soak: $(BIN)/.installed-dev
	SOAK_ROUNDS=$(ROUNDS) SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s tests/faults/test_interruption.py

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

format: $(BIN)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Pin what the .in files choose, in the newest versions; the extras go by what requirements.txt has.
requirements: $(BIN)/.installed
	@set -e; for extra in "" $(EXTRAS:%=-%); do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	    --custom-compile-command "make requirements" --upgrade requirements$$extra.in -o requirements$$extra.txt; \
	done

clean:
	rm -rf $(VENV) .demo
