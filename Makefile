# The project's own commands. `make run` and `make test` do all the set-up they need.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

TRIPLE := x86_64-unknown-linux-gnu
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/$(TRIPLE)/release/holdfast
UI_STAMP := web-ui/node_modules/.holdfast-installed
UI_DIST := web-ui/dist/index.html
UI_SOURCES := $(shell git ls-files web-ui 2>/dev/null)
DATA ?= ./data
LISTEN ?= 127.0.0.1:8443
SECONDS_EACH ?= 10
SEED ?=
ROUNDS ?= 5000
SEEDS ?= 5000

.PHONY: help build run test verify fix bench crash sim ui tools chromium network archivers backup-servers clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

tools: ## Check that the tools to build with are there
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or later (package rustup or rustc, or rustup.rs), then try again"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install gcc libc6-dev"; exit 1; }
	@command -v node >/dev/null || { echo "node is missing: install Node.js 20 or later with npm"; exit 1; }
	@command -v npm >/dev/null || { echo "npm is missing: install it beside Node.js 20 or later"; exit 1; }

$(UI_STAMP): web-ui/package.json web-ui/package-lock.json
	cd web-ui && npm ci --no-audit --no-fund
	@touch $@

$(UI_DIST): $(UI_STAMP) $(UI_SOURCES)
	cd web-ui && npm run build && node scripts/compress.mjs

ui: tools $(UI_DIST)

build: ui ## Build the static release binary with the web client in it
	cargo build --release --locked
	@ls -l $(BINARY)

run: build ## Set everything up and start a server on https://127.0.0.1:8443 with its data in ./data
	$(BINARY) serve --data $(DATA) --listen $(LISTEN)

chromium:
	@command -v chromium >/dev/null || { \
	  echo "chromium is missing: trying apt-get"; \
	  apt-get update -qq && apt-get install -y -qq chromium || { echo "install Debian's chromium: apt-get install chromium"; exit 1; }; }
	@command -v cargo-nextest >/dev/null || cargo nextest --version >/dev/null 2>&1 || { \
	  echo "cargo-nextest is missing: trying cargo install"; cargo install --locked cargo-nextest; }

network:
	@[ "$$(id -u)" != 0 ] || { command -v ip && command -v arping; } >/dev/null || { \
	  echo "ip or arping is missing: trying apt-get"; \
	  apt-get update -qq && apt-get install -y -qq iproute2 iputils-arping || { echo "install them: apt-get install iproute2 iputils-arping"; exit 1; }; }

archivers:
	@{ command -v age && command -v zstd && command -v b3sum; } >/dev/null || { \
	  echo "age, zstd or b3sum is missing: trying apt-get"; \
	  apt-get update -qq && apt-get install -y -qq age zstd b3sum || { echo "install them: apt-get install age zstd b3sum"; exit 1; }; }

# The servers that backups are tested against: OpenSSH of Debian, moto and wsgidav of PyPI in a place of their own.
SERVERS := $(TARGET_DIR)/backup-servers
SERVERS_STAMP := $(SERVERS)/.installed

$(SERVERS_STAMP): tests/targets/requirements.txt
	@rm -rf $(SERVERS)
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "python3 with venv is missing: trying apt-get"; \
	  apt-get update -qq && apt-get install -y -qq python3 python3-venv || { echo "install it: apt-get install python3-venv"; exit 1; }; }
	@python3 -m venv $(SERVERS)
	@$(SERVERS)/bin/pip install --quiet --disable-pip-version-check -r $< || { \
	  echo "the test servers of tests/targets/requirements.txt cannot be installed from PyPI"; exit 1; }
	@touch $@

backup-servers: $(SERVERS_STAMP)
	@{ [ -x /usr/sbin/sshd ] && command -v ssh-keygen; } >/dev/null || { \
	  echo "sshd is missing: trying apt-get"; \
	  apt-get update -qq && apt-get install -y -qq openssh-server || { echo "install it: apt-get install openssh-server"; exit 1; }; }

test: build chromium network archivers backup-servers ## Set everything up and run all tests
	@ldd $(BINARY) 2>&1 | grep -q 'statically linked' || { echo "$(BINARY) is not statically linked"; exit 1; }
	cd web-ui && npm run check && npm test && npm run size
	HOLDFAST_BACKUP_SERVERS=$(abspath $(SERVERS)) HOLDFAST_RELEASE_BINARY=$(abspath $(BINARY)) cargo nextest run --locked --no-fail-fast

verify: tools $(UI_DIST) ## Check format, lints, documentation, tidiness, and the client's lint and types; edits nothing
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
	cargo test --locked --quiet --test tidy
	cd web-ui && npm run check

fix: tools $(UI_STAMP) ## Put right what can be put right by a program: format, lints, the OpenAPI contract
	cargo fmt
	cargo clippy --fix --allow-dirty --allow-staged --all-targets
	UPDATE_OPENAPI=1 INSTA_UPDATE=always cargo test --quiet --test api openapi
	cd web-ui && npm run generate && npm run fix

bench: build ## Measure this machine: every scenario of docs/PERFORMANCE.md at its full size (hours of disk and CPU: see there)
	$(BINARY) bench send --no-tls --seconds $(SECONDS_EACH)
	$(BINARY) bench send --seconds $(SECONDS_EACH)
	$(BINARY) bench send --rate 5000 --seconds $(SECONDS_EACH)
	$(BINARY) bench fanout --no-tls --seconds $(SECONDS_EACH)
	$(BINARY) bench fanout --no-tls --rate 100000 --seconds $(SECONDS_EACH)
	$(BINARY) bench idle --no-tls
	$(BINARY) bench idle
	$(BINARY) bench history --seconds $(SECONDS_EACH)
	$(BINARY) bench restart
	$(BINARY) bench send --pair yes --seconds $(SECONDS_EACH)
	$(BINARY) bench failover --rounds 20
	$(BINARY) bench failover --rounds 20 --witness no
	$(BINARY) bench failover --rounds 20 --fault switchover

crash: ## Kill the server ROUNDS times under load and check every acknowledged message (long)
	HOLDFAST_CRASH_ROUNDS=$(ROUNDS) HOLDFAST_CRASH_SEED=$(SEED) cargo nextest run --locked --test crash --no-capture

sim: ## Run SEEDS seeds of the pair on a simulated network and clock; SEED=n runs one and prints what happened (long)
	HOLDFAST_SIM_SEEDS=$(SEEDS) HOLDFAST_SIM_SEED=$(SEED) cargo nextest run --locked --cargo-profile test-release --test sim --no-fail-fast --no-capture

clean: ## Remove what was built; never touches data
	cargo clean
	rm -rf web-ui/dist web-ui/node_modules
