# Set-up happens by itself, once: a virtual environment in .venv with the versions in constraints.txt.
PYTHON ?= python3
PY = .venv/bin/python
LOWEST = .venv-lowest/bin/python
NNUNET = nnunetv2~=2.8 dynamic-network-architectures~=0.4.4 batchgenerators~=0.25 batchgeneratorsv2~=0.3 acvl-utils~=0.2
SETUP = .venv/.installed

.PHONY: demo test test-slow test-lowest lint docs bench bench-accuracy clean

demo: $(SETUP)
	rm -rf demo
	.venv/bin/coopseg demo demo

# One thread for each of the two workers: more would wait for one another. A file stays with one worker, so that
# what its tests share is made once.
test: $(SETUP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

test-slow: $(SETUP)
	$(PY) -m pytest -m slow

# The fast tests with the lowest versions that pyproject.toml promises, in .venv-lowest.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) scripts/lowest_versions.py > .venv-lowest/lowest.txt
	$(LOWEST) -m pip install --quiet --disable-pip-version-check -c constraints.txt -c .venv-lowest/lowest.txt -e ".[dev]"
	$(LOWEST) -m pip install --quiet --disable-pip-version-check --no-deps $(NNUNET)
	OMP_NUM_THREADS=1 $(LOWEST) -m pytest -n 2 -W default::DeprecationWarning  # old releases use old names of others

lint: $(SETUP)
	.venv/bin/ruff check src tests benchmarks scripts
	.venv/bin/ruff format --check src tests benchmarks scripts
	.venv/bin/mypy

# Into site/; a broken link is an error. Searching in the pages needs a server: python -m http.server -d site
docs: $(SETUP)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

bench: $(SETUP)
	$(PY) benchmarks/bench.py

bench-accuracy: $(SETUP)
	$(PY) benchmarks/accuracy.py

$(SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(NNUNET)
	touch $(SETUP)

clean:
	rm -rf .venv .venv-lowest demo site
