# gatetable: `make` does the main job, `make help` lists the rest.
# Options of a stage go through ARGS, for example: make train ARGS="--units 256 --num-epochs 12"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BUILD := $(or $(GATETABLE_BUILD),build)

PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
KERNEL := $(VENV)/.kernel

.DEFAULT_GOAL := all
.PHONY: all help install data baseline train tune data-service ablation export verify score layout \
        rewrite-onnx upload pull tune-workers train-workers train-bench evaluate compare compare-http serve endure pictures bench calibrate cudnn-check report readme wheel lint format types test test-fast test-slow pre-pr lock clean-cache clean

all: $(KERNEL)  ## The main job: prepare, train, export, verify, compare (under 15 minutes on 2 cores)
	$(PY) -m pipeline data
	$(PY) -m pipeline baseline
	$(PY) -m pipeline train
	$(PY) -m export export
	$(PY) -m export verify
	$(PY) -m serving_compare compare

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(KERNEL)  ## Create .venv, install requirements.lock (hashes checked), build the kernel

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: gatetable needs Python 3.11 or newer, found $$($(PYTHON) -V). Pass PYTHON=python3.x." >&2; exit 2; }
	@echo "Installing requirements.lock into $(VENV) (once, about 2 minutes)"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# Without a compiler a notice, and the NumPy engine serves.
$(KERNEL): $(INSTALLED) $(wildcard export/lookup/kernel/*.[ch])
	$(PY) -m export.lookup build --optional
	@touch $@

data: $(KERNEL)  ## Clean, split, tokenise a table of text, and describe it in a data card
	$(PY) -m pipeline data $(ARGS)

baseline: $(KERNEL)  ## TF-IDF + linear SVM on the same split: the figure to beat
	$(PY) -m pipeline baseline $(ARGS)

train: $(KERNEL)  ## Train one model (prepares the data if need be)
	$(PY) -m pipeline train $(ARGS)

tune: $(KERNEL)  ## Search hyperparameters with KerasTuner
	$(PY) -m pipeline tune $(ARGS)

evaluate: $(KERNEL)  ## Measure a run class by class; ARGS="RUN OTHER" compares two, OTHER may be svm
	$(PY) -m pipeline evaluate $(ARGS)

train-bench: $(KERNEL)  ## What a training step costs: eager loop, Keras's fit, XLA, ours (20 minutes; ARGS=--quick)
	$(PY) -m pipeline train-bench $(ARGS)

N ?= 2
tune-workers: $(KERNEL)  ## Search hyperparameters with N=2 processes
	$(PY) -m pipeline tune-workers -n $(N) $(ARGS)

train-workers: $(KERNEL)  ## Train one model with N=2 processes, each with its rows of every batch
	$(PY) -m pipeline train-workers -n $(N) $(ARGS)

data-service: $(KERNEL)  ## Run a tf.data service: a dispatcher and workers that read and tokenise
	$(PY) -m pipeline data-service $(ARGS)

ablation: $(KERNEL)  ## What each step of a tf.data pipeline is worth on your data (ARGS=--quick: 3 minutes)
	$(PY) -m pipeline ablation $(ARGS)

export: $(KERNEL)  ## Export the newest run: SavedModel, ONNX, lookup tables, proven to agree
	$(PY) -m export export $(ARGS)

verify: $(KERNEL)  ## Check a published artifact: hashes, golden probes, every runtime
	$(PY) -m export verify $(ARGS)

score: $(KERNEL)  ## Score a column of a file: make score ARGS="ARTIFACT IN OUT"
	$(PY) -m export score $(ARGS)

layout: $(KERNEL)  ## Copy an artifact for Triton or TensorFlow Serving: ARGS="--for triton ARTIFACT OUT"
	$(PY) -m export layout $(ARGS)

rewrite-onnx: $(KERNEL)  ## Any Keras 3 model with GRUs to ONNX with fused GRUs: ARGS="MODEL.keras OUT.onnx"
	$(PY) -m export rewrite-onnx $(ARGS)

upload: $(KERNEL)  ## Upload the artifact in use to S3: ARGS="s3://bucket/prefix --sign team.pem"
	$(PY) -m export upload $(ARGS)

pull: $(KERNEL)  ## Fetch an artifact from S3, check every byte, publish it: ARGS="s3://bucket/prefix"
	$(PY) -m export pull $(ARGS)

wheel: $(KERNEL)  ## Build a small wheel of the runtime, kernel compiled, into build/wheels/
	$(PY) -m export wheel $(ARGS)

compare: $(KERNEL)  ## Time the three runtimes and write a report
	$(PY) -m serving_compare compare $(ARGS)

compare-http: $(KERNEL)  ## The same, and behind real servers: rates within a p99 of 10 ms (15 minutes)
	$(PY) -m serving_compare compare --http $(ARGS)

serve: $(KERNEL)  ## Serve the newest artifact over HTTP, with a page: ARGS="--backends lookup,onnx"
	$(PY) -m serving_compare serve $(ARGS)

endure: $(KERNEL)  ## Hold the server to its promises: load, overload, SIGTERM, kill -9, new versions
	$(PY) -m serving_compare endure $(ARGS)

bench: $(KERNEL)  ## Time the lookup kernel, its floor and its peers (under 15 minutes; ARGS=--quick: 2)
	$(PY) -m serving_compare bench $(ARGS)

calibrate: $(KERNEL)  ## Measure what GRU steps cost here, for tune --max-latency-us (15 s)
	$(PY) -m serving_compare calibrate $(ARGS)

cudnn-check: $(KERNEL)  ## Say whether a GPU would run the GRUs on cuDNN, and what keeps them off it
	$(PY) -m pipeline cudnn-check $(ARGS)

report: $(KERNEL)  ## Render a report again from its raw samples
	$(PY) -m serving_compare report $(ARGS)

pictures: $(KERNEL)  ## Take the documentation's pictures (needs Chromium)
	$(PY) docs/take_report_picture.py
	$(PY) docs/take_page_picture.py
	$(PY) docs/take_browser_picture.py $(ARGS)

readme: $(KERNEL)  ## Write the README's generated part and the reference report's pages
	$(PY) docs/generate_readme.py

lint: $(KERNEL)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(KERNEL)  ## Format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(KERNEL)
	$(VENV)/bin/mypy

test-fast: $(KERNEL)  ## The tests that need no TensorFlow (about two minutes)
	$(PY) -m pytest -q -m "not slow" -n auto --maxprocesses 4 --dist loadfile

test-slow: $(KERNEL)
	$(PY) -m pytest -q -m slow -n auto --maxprocesses 4 --dist loadfile

test: lint types test-fast test-slow  ## Lint, types, all tests (under 20 minutes)

pre-pr: lint types test-fast  ## What to run before a commit

# Every extra but ray and peers (uv has no --no-extra here): all machines of a cluster must run one
# release of Ray, so the cluster chooses it; the peers are several GB that only `bench` may use.
LOCKED_EXTRAS := pipeline export score store serving dev

lock:  ## Resolve requirements.lock anew from pyproject.toml
	$(PYTHON) -m venv $(BUILD)/lock-tools
	$(BUILD)/lock-tools/bin/pip install --quiet uv
	$(BUILD)/lock-tools/bin/uv pip compile pyproject.toml --universal \
	  $(addprefix --extra ,$(LOCKED_EXTRAS)) \
	  --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	  --custom-compile-command "make lock" --output-file requirements.lock

clean-cache: $(KERNEL)  ## Remove the tokenised rows that --cache block and snapshot keep
	$(PY) -m pipeline clean-cache

clean:  ## Remove data, caches, runs, searches, artifacts, reports and wheels
	rm -rf $(addprefix $(BUILD)/,data cache runs tuner artifacts reports wheels lock-tools)
