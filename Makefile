PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
AUTHENTIK := tests/test_double.py tests/test_policy.py tests/test_blueprint.py
WRAPPED := $(VENV)/authentik-policy.py
CODE := main.py healthcheck.py tests bench tools

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/run.stamp  ## run the service: on 127.0.0.1, with AUTH_TOKEN or AUTH_TOKEN_FILE set on every address
	@HOST="$${HOST:-$$([ -n "$$AUTH_TOKEN$$AUTH_TOKEN_FILE" ] && echo 0.0.0.0 || echo 127.0.0.1)}" \
		exec $(VENV)/bin/python main.py

test: lint  ## check the code, run the tests, and measure what they cover
	@rm -f .coverage .coverage.*
	$(VENV)/bin/python -m pytest --coverage $(PYTEST)
	AUTHENTIK_VERSION=2025.10 $(VENV)/bin/python -m pytest $(AUTHENTIK)
	@if ls .coverage.* >/dev/null 2>&1; \
		then $(VENV)/bin/python -m coverage combine --quiet && $(VENV)/bin/python -m coverage report; \
		else echo "No service was started, so there is no coverage to measure: see the skipped tests"; fi

# the policy has a return outside of a function: it is checked as authentik wraps it
lint: $(VENV)/test.stamp  ## check format, style and types
	$(VENV)/bin/python tests/double/evaluator.py authentik-policy.py > $(WRAPPED)
	$(VENV)/bin/ruff format --check $(CODE) $(WRAPPED)
	$(VENV)/bin/ruff check $(CODE) $(WRAPPED)
	$(VENV)/bin/mypy $(CODE) $(WRAPPED)
	$(VENV)/bin/python tools/write_blueprint.py --check

blueprint:  ## write authentik-policy.py into authentik-blueprint.yaml
	$(PYTHON) tools/write_blueprint.py

test-deploy: $(VENV)/deploy.stamp  ## try the deployment for real (root; needs docker.io, iptables, debootstrap)
	$(VENV)/bin/python -m pytest tests/deploy $(PYTEST)

bench: $(VENV)/test.stamp  ## measure speed and size (root; needs gcc and libpam0g-dev)
	$(VENV)/bin/python bench/bench.py $(BENCH)

$(VENV)/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing: run 'apt install python3-venv' as root, then make again" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp pyproject.toml
	$(PIP) install pip==26.3
	$(PIP) install --group dev
	@touch $@

$(VENV)/deploy.stamp: $(VENV)/test.stamp
	$(PIP) install --group deploy
	@touch $@

.PHONY: help run test test-deploy lint blueprint bench
