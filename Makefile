# make study    every notebook on the tiny profile, then the result table (the default)
# make test     the tests, in two processes of one thread each
# make lab      JupyterLab on the notebooks
# make app      the constraint explorer of lesson 08 as an app, without code
# make figures  copy the figures of the last tiny study to figures/
# make clean    remove all that git ignores: .venv, artifacts, runs
# Another Python: make study PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

study: $(INSTALLED)
	$(BIN)/npkit run

test: $(INSTALLED)
	$(BIN)/ruff check
	@command -v chromium >/dev/null || echo "no chromium on the path: the browser tests are skipped"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lab: $(INSTALLED)
	GOMP_SPINCOUNT=10000 $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks

app: $(INSTALLED)
	GOMP_SPINCOUNT=10000 $(BIN)/voila notebooks/08_constraint_explorer.ipynb

figures: $(INSTALLED)
	cp artifacts/tiny/figures/seed0/*.png figures/

clean:
	rm -rf .venv artifacts runs *.egg-info .pytest_cache .ruff_cache
	find npkit tests -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("npkit needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] \
	  + ": name another, as in make study PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Installing into .venv, once: some minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: study test lab app figures clean
