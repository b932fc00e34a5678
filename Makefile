# Every target does its own set-up in .venv and needs nothing but make and Python >= 3.11:
#
#   make demo     train and evaluate a robust network on handwritten digits   -> runs/demo/report.md
#   make test     the whole test suite
#   make faults   runs that are killed, damaged and crowded out, many times over
#   make lint     ruff and pyright
#   make ntk      how Lipschitzness scales with width, in theory and practice  -> runs/ntk/report.md
#   make findings what the papers claim, studied anew; resumable, 2 to 3 hours  -> docs/findings.md
#   make bench    our training step and PGD-20 beside PyTorch's, and what the host adds; minutes
#   make bench-accelerator   checks, speed, a short study and AutoAttack on a GPU; DATA=npz:FILE
#   make docs     the pages of docs/ as a site, strict about links             -> build/site/index.html
#   make test-matrix   a third of the tests under the oldest and the newest JAX
#   make clean    remove .venv and caches; runs/ is left alone
#
# Another interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test faults lint ntk findings bench bench-accelerator docs test-matrix clean

demo: $(VENV)/.stamp-run
	$(BIN)/python -m war_jax.main --config=configs/digits.py --workdir=runs/demo

test: $(VENV)/.stamp-test
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 \
		--dist=loadfile --no-loadscope-reorder

faults: $(VENV)/.stamp-test
	WAR_JAX_FAULTS=20 $(BIN)/python -m pytest tests/war_jax/training/test_faults.py tests/launch

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/pyright

ntk: $(VENV)/.stamp-ntk
	$(BIN)/python -m ntk.main --config=configs/ntk_width.py --workdir=runs/ntk

findings: $(VENV)/.stamp-ntk
	$(BIN)/python -m war_jax.studies.catalogue --run

bench: $(VENV)/.stamp-bench
	$(BIN)/python -m benchmarks.train_step --networks=10-1,16-2,34-1
	$(BIN)/python -m benchmarks.evaluation --networks=10-1,16-2,34-1
	$(BIN)/python -m benchmarks.host

docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# JAX 0.12 needs Python >= 3.12. What runs under both: whatever touches JAX's interfaces most.
OLDEST := 3.11 jax==0.9.0 jaxlib==0.9.0
NEWEST := 3.12 jax==0.12.*
MATRIX := tests/test_lowering.py tests/war_jax/attacks tests/war_jax/models tests/war_jax/training \
	tests/war_jax/data tests/ntk/empirical tests/ntk/infinite
test-matrix:
	@set -e; for row in '$(OLDEST)' '$(NEWEST)'; do set -- $$row; \
		environment=.venv-matrix/$$1; version=$$1; shift; \
		python$$version -m venv $$environment; \
		$$environment/bin/python -m pip install --quiet --editable '.[test]' frozendict "$$@"; \
		$$environment/bin/python -m pip install --quiet --no-deps neural-tangents==0.6.5; \
		$$environment/bin/python -m pytest --numprocesses=logical --maxprocesses=4 \
			--dist=loadfile --no-loadscope-reorder $(MATRIX); \
	done

# In an environment of its own, so that the other targets stay on the CPU. PyTorch's build for Linux
# that pip takes by default is the one for CUDA.
DATA ?= cifar10
bench-accelerator: PIP_INSTALL := .venv-accelerator/bin/python -m pip install --quiet
bench-accelerator:
	$(PYTHON) -m venv .venv-accelerator
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[cuda,torch]' torch==2.13.0
	.venv-accelerator/bin/python -m benchmarks.accelerator_day --minutes=60 --data=$(DATA)

clean:
	rm -rf $(VENV) .venv-accelerator .venv-matrix build *.egg-info .pytest_cache .ruff_cache
	find . -path ./runs -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is older than what it was made from if a requirement has changed since: install again.
$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, and $(PYTHON) is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo 'Setting up $(VENV), once; this takes a few minutes.'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-run: $(VENV)/.stamp-venv setup.py constraints.txt
	$(PIP_INSTALL) --editable .
	@touch $@

# Without TensorFlow (600 MB), which neural-tangents declares and ntk does not use.
$(VENV)/.stamp-ntk: $(VENV)/.stamp-run
	$(PIP_INSTALL) frozendict
	$(PIP_INSTALL) --no-deps neural-tangents==0.6.5
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-ntk
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-run
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

# The benchmark's baseline is one exact release; constraints.txt leaves torch out, because which
# build of it (CPU, CUDA) is wanted depends on the machine.
$(VENV)/.stamp-bench: $(VENV)/.stamp-run
	$(PIP_INSTALL) --editable '.[torch]' torch==2.13.0
	@touch $@
