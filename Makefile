PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
WORKERS ?= $(shell expr 2 '*' $$(nproc))
AUTHENTIK := tests/test_double.py tests/test_policy.py tests/test_blueprint.py tests/test_sync.py
WRAPPED := $(VENV)/authentik-policy.py
CODE := main.py authentik-sync.py deploy/check-login deploy/healthcheck.py tests bench tools
APP := /opt/ugos-auth-proxy
UNIT := ugos-auth-proxy.service
UNIT_FILE := /etc/systemd/system/$(UNIT)
SYNC_UNIT := ugos-authentik-sync.service
SYNC_UNIT_FILE := /etc/systemd/system/$(SYNC_UNIT)
PAM := deploy/ugos-auth-proxy.pam
PAM_FILE := /etc/pam.d/ugos-auth-proxy
CONFIG := /etc/ugos-auth-proxy

help:  ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# with a token on every address, else on loopback
run: $(VENV)/run.stamp  ## run the service here, with the settings of the environment
	@[ -n "$$HOST$$AUTH_TOKEN$$AUTH_TOKEN_FILE" ] || export HOST=127.0.0.1; \
		exec $(VENV)/bin/python main.py

# Two workers for each processor, as half of the tests wait. Those marked `alone` follow in turn.
# PYTEST may name files that have none of one kind: then pytest's status is 5.
test: $(VENV)/test.stamp  ## run the tests, and measure what they cover
	@rm -f .coverage .coverage.*
	$(PY) -m pytest --coverage --numprocesses=$(WORKERS) -m 'not alone' $(PYTEST) $(if $(PYTEST),|| [ $$? = 5 ])
	$(PY) -m pytest --coverage -m alone $(PYTEST) $(if $(PYTEST),|| [ $$? = 5 ])
	@if ls .coverage.* >/dev/null 2>&1; \
		then $(PY) -m coverage combine --quiet && $(PY) -m coverage report; \
		else echo "No service was started, so there is no coverage to measure: see the skipped tests"; fi

test-authentik: $(VENV)/test.stamp  ## run authentik's part with the double of an older authentik
	AUTHENTIK_VERSION=2025.10 $(PY) -m pytest --numprocesses=$(WORKERS) $(AUTHENTIK)

install: python root  ## install it as a systemd service; also updates and repairs (root)
	@umask 022; install -d -m 755 -o root -g root $(APP)
	@cmp -s requirements.txt $(APP)/venv/requirements.txt && \
		$(APP)/venv/bin/python -c 'import pam' 2>/dev/null || $(MAKE) --no-print-directory app-venv
	@install -m 644 main.py $(APP)/main.py
	@if [ ! -e $(PAM_FILE) ]; then install -m 644 $(PAM) $(PAM_FILE); \
		elif ! cmp -s $(PAM) $(PAM_FILE); then echo "kept $(PAM_FILE), which is not $(PAM)"; fi
	@install -m 644 $(UNIT) $(UNIT_FILE)
	@systemctl daemon-reload
	@systemctl --quiet enable $(UNIT)
	@systemctl reset-failed $(UNIT) 2>/dev/null || true
	@systemctl restart $(UNIT) || { \
		journalctl --sync; \
		journalctl --unit=$(UNIT) --lines=20 --output=cat --no-pager; \
		echo "It does not start. When that is mended, run 'sudo make install' again" >&2; exit 1; }
	@$(APP)/venv/bin/python -c "$$PROBE" \
		"$$(systemctl show --property=StatusText --value $(UNIT))"
	@$(if $(SYNC),$(MAKE) --no-print-directory sync-unit)

sync-unit:
	@install -m 644 authentik-sync.py $(APP)/authentik-sync.py
	@install -m 644 deploy/$(SYNC_UNIT) $(SYNC_UNIT_FILE)
	@systemctl daemon-reload
	@systemctl --quiet enable $(SYNC_UNIT)
	@systemctl reset-failed $(SYNC_UNIT) 2>/dev/null || true
	@systemctl restart $(SYNC_UNIT) || { \
		echo "$(SYNC_UNIT) does not start: see docs/authentik-sync.md, and run it again" >&2; exit 1; }

app-venv:
	@umask 022; new=$(APP)/venv.new; echo "making $(APP)/venv"; rm -rf $$new; \
		$(PYTHON) -m venv $$new && \
		$$new/bin/pip --quiet --disable-pip-version-check --no-cache-dir \
			install --require-hashes -r requirements.txt && \
		cp requirements.txt $$new && rm -rf $(APP)/venv && mv $$new $(APP)/venv

uninstall: root  ## take the systemd service away again (root)
	@systemctl --quiet disable --now $(UNIT) 2>/dev/null || true
	@systemctl --quiet disable --now $(SYNC_UNIT) 2>/dev/null || true
	@rm -rf $(APP) $(UNIT_FILE) $(SYNC_UNIT_FILE)
	@systemctl daemon-reload
	@systemctl reset-failed $(UNIT) $(SYNC_UNIT) 2>/dev/null || true
	@if cmp -s $(PAM) $(PAM_FILE); then rm $(PAM_FILE); fi
	@rmdir $(UNIT_FILE).d $(CONFIG) 2>/dev/null || true
	@for kept in $(PAM_FILE) $(UNIT_FILE).d $(CONFIG); do if [ -e $$kept ]; then \
		echo "kept $$kept, which has what you wrote: 'sudo rm -r $$kept' removes it"; fi; done

# Asks /ready at the URL that the service told systemd, again and again for 5 seconds. One answer
# takes at most 12: PAM may hang.
define PROBE
import json, ssl, sys, time, urllib.error, urllib.request
url, until, said = sys.argv[1], time.monotonic() + 5, ""
itself = ssl._create_unverified_context()
while time.monotonic() < until:
    try:
        urllib.request.urlopen(url + "/ready", timeout=12, context=itself)
        sys.exit(print("ugos-auth-proxy is ready at " + url))
    except urllib.error.HTTPError as error:
        said = json.load(error).get("error")
    except OSError as error:
        said = str(error)
    time.sleep(0.5)
sys.exit(
    """ugos-auth-proxy runs at %s, but is not ready: %s
What to do: Troubleshooting in README.md. The log: journalctl -u ugos-auth-proxy""" % (url, said)
)
endef
export PROBE

# the policy has a return outside of a function: it is checked as authentik wraps it
lint: $(VENV)/test.stamp  ## check format, style and types
	$(VENV)/bin/python tests/double/evaluator.py authentik-policy.py > $(WRAPPED)
	$(VENV)/bin/ruff format --check $(CODE) $(WRAPPED)
	$(VENV)/bin/ruff check $(CODE) $(WRAPPED)
	$(VENV)/bin/mypy $(CODE) $(WRAPPED)
	$(VENV)/bin/python tools/write_blueprint.py --check

blueprint:  ## write authentik-policy.py into the blueprint
	$(PYTHON) tools/write_blueprint.py

test-deploy: $(VENV)/deploy.stamp  ## try the deployments for real (root; see docs/development.md)
	@$(MAKE) --jobs=2 --output-sync=target test-docker test-systemd

test-docker:
	$(PY) -m pytest -m docker tests/deploy $(PYTEST) $(if $(PYTEST),|| [ $$? = 5 ])

test-systemd:
	$(PY) -m pytest -m 'not docker' tests/deploy $(PYTEST) $(if $(PYTEST),|| [ $$? = 5 ])

test-real:  ## run it in authentik itself (see docs/real-authentik.md)
	@[ -n "$(AUTHENTIK_PYTHON)" ] && [ -d "$(AUTHENTIK_TREE)" ] || { echo \
		"AUTHENTIK_TREE, AUTHENTIK_PYTHON: see docs/real-authentik.md for what it needs" >&2; exit 1; }
	cd $(AUTHENTIK_TREE) && $(AUTHENTIK_PYTHON) $(CURDIR)/tests/real/run.py $(USERS)

soak: $(VENV)/test.stamp  ## run SOAK_MINUTES (3) under all kinds of clients, look for what is lost
	$(VENV)/bin/python -m pytest -s tests/soak $(PYTEST)

fuzz: $(VENV)/fuzz.stamp  ## fuzz the parsers, each for FUZZ_SECONDS (60)
	$(VENV)/bin/python tests/fuzz/run.py

bench: $(VENV)/test.stamp  ## measure speed and size (root; needs gcc and libpam0g-dev)
	$(VENV)/bin/python bench/bench.py $(BENCH)

bench-peers: $(VENV)/bench.stamp  ## measure it beside saslauthd, nginx and Apache (root)
	$(VENV)/bin/python bench/peers.py $(BENCH)

$(VENV)/run.stamp: requirements.txt | python
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.txt
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing: run 'apt install python3-venv' as root" >&2; exit 1; }

root:
	@[ "$$(id -u)" = 0 ] || { echo "This needs root: run it with sudo" >&2; exit 1; }

$(VENV)/test.stamp: $(VENV)/run.stamp pyproject.toml
	$(PIP) install pip==26.3
	$(PIP) install --group dev
	@touch $@

$(VENV)/deploy.stamp: $(VENV)/test.stamp
	$(PIP) install --group deploy
	@touch $@

$(VENV)/bench.stamp: $(VENV)/test.stamp
	$(PIP) install --group bench
	@touch $@

$(VENV)/fuzz.stamp: $(VENV)/test.stamp
	$(PIP) install --group fuzz
	@touch $@

.PHONY: help run test test-authentik lint install app-venv sync-unit uninstall blueprint \
	test-deploy test-docker test-systemd test-real soak fuzz bench bench-peers python root
