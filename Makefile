# What one types to run, test and measure voxcast. Every step is a target of its own, so that one can be run again alone.
# CI runs `make test`. Missing Debian or Ubuntu packages are installed; where nothing is missing, nothing is touched.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

CARGO ?= cargo
# Arguments of the server: make run ARGS="--port 9000"
ARGS ?=
# Seconds per fuzz target.
SMOKE_SECONDS ?= 10
FUZZ_SECONDS ?= 600

# Asked of cargo, so that CARGO_TARGET_DIR and cargo's own settings count; only when a recipe needs it.
TARGET_DIR = $(shell $(CARGO) metadata --no-deps --offline --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
RUST_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
VOXCAST_BIN = $(TARGET_DIR)/release/voxcast
CHROMIUM ?= $(or $(shell command -v chromium || command -v chromium-browser || command -v google-chrome),/usr/bin/chromium)
export CHROMIUM

FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
# What cargo-fuzz passes with `--sanitizer none`. All of it is stable, so neither cargo-fuzz nor a nightly compiler is needed.
# An explicit --target keeps it away from build scripts, which could not be linked so.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_DIR = $(TARGET_DIR)/fuzz
# What fuzz targets are built with: long runs are worth the optimizer's time.
FUZZ_PROFILE = release

# Installs the packages named in $$want, if any. Used at the end of a recipe's line.
define INSTALL
if [ -z "$$want" ]; then exit 0; fi; \
if ! command -v apt-get > /dev/null; then echo "Please install:$$want" >&2; exit 1; fi; \
sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$want
endef

.PHONY: help
help: ## Says what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

.PHONY: run
run: build-tools ## Builds in release mode and serves
	$(CARGO) run --release --locked -- $(ARGS)

.PHONY: test
test: ## All that CI runs, from a clean clone, in about three quarters of an hour on two cores
test: test-tools fmt-check clippy doc unit web release process browser fuzz-smoke bench-build deny
	@echo "make test: every step passed"

.PHONY: build-tools
build-tools:
	@command -v $(CARGO) > /dev/null || { echo "Please install Rust first: https://rustup.rs" >&2; exit 1; }
	@want=; \
	command -v cc > /dev/null && command -v c++ > /dev/null || want+=" build-essential"; \
	command -v cmake > /dev/null || want+=" cmake"; \
	command -v pkg-config > /dev/null || want+=" pkg-config"; \
	$(INSTALL)

.PHONY: test-tools
test-tools: build-tools
	@$(CARGO) fmt --version > /dev/null && $(CARGO) clippy --version > /dev/null || rustup component add rustfmt clippy
	@want=; \
	command -v node > /dev/null || want+=" nodejs"; \
	command -v npm > /dev/null || want+=" npm"; \
	[ -x "$(CHROMIUM)" ] || want+=" chromium"; \
	$(INSTALL)
	@# A client of TURN that others wrote. It comes with a server, which must not take our port.
	@command -v turnutils_uclient > /dev/null || { want=" coturn"; ($(INSTALL)) && \
	{ ! command -v systemctl > /dev/null || $$([ "$$(id -u)" = 0 ] || echo sudo) systemctl disable --now -q coturn || true; }; }

.PHONY: fmt
fmt: ## Formats all Rust code
	$(CARGO) fmt --all
	$(if $(FUZZ_TARGETS),rustfmt --edition 2024 $(FUZZ_TARGETS:%=fuzz/fuzz_targets/%.rs))

.PHONY: fmt-check
fmt-check: ## Is the code formatted?
	$(CARGO) fmt --all --check
	$(if $(FUZZ_TARGETS),rustfmt --edition 2024 --check $(FUZZ_TARGETS:%=fuzz/fuzz_targets/%.rs))

.PHONY: clippy
clippy: ## Lints, warnings are errors
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --manifest-path fuzz/Cargo.toml --target-dir "$(TARGET_DIR)" -- -D warnings

.PHONY: doc
doc: ## Documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: unit
unit: ## Unit, behaviour and property tests, in process
	$(CARGO) test --locked --lib --bins
	$(CARGO) test --locked --doc

.PHONY: release
release: build-tools ## The release binary
	$(CARGO) build --locked --release

.PHONY: process
process: release ## Tests that start the release binary
	VOXCAST_BIN="$(VOXCAST_BIN)" $(CARGO) test --locked --test process

web/node_modules: web/package.json web/package-lock.json
	npm ci --prefix web --no-audit --no-fund
	@touch $@

.PHONY: web
web: web/node_modules ## Types and unit tests of the pages
	npm test --prefix web

.PHONY: browser
browser: release web/node_modules ## Chromium against the release binary
	VOXCAST_BIN="$(VOXCAST_BIN)" npm run browser --prefix web

.PHONY: net-tools
net-tools: test-tools
	@want=; \
	command -v ip > /dev/null || want+=" iproute2"; \
	[ -n "$$(PATH=$$PATH:/usr/sbin:/sbin command -v nft)" ] || want+=" nftables"; \
	command -v nsenter > /dev/null && command -v setpriv > /dev/null || want+=" util-linux"; \
	command -v openssl > /dev/null || want+=" openssl"; \
	$(INSTALL)

# As root, who alone may make networks; what is built is not.
.PHONY: test-net
test-net: net-tools release web/node_modules ## Who hears whom through which NATs, in network namespaces: asks for root, takes about five minutes
	@[ "$$(id -u)" = 0 ] || command -v sudo > /dev/null || { echo "make test-net makes network namespaces: run it as root" >&2; exit 1; }
	$(if $(filter 0,$(shell id -u)),,sudo) env PATH="$$PATH:/usr/sbin:/sbin" CHROMIUM="$(CHROMIUM)" VOXCAST_BIN="$(VOXCAST_BIN)" \
		TABLE="$(TARGET_DIR)/net.md" timeout --kill-after=30 900 node --test --test-reporter=spec --test-concurrency=1 tests/net/*.test.js

.PHONY: fuzz-build
fuzz-build: build-tools
	$(if $(FUZZ_TARGETS),,$(error fuzz/fuzz_targets is empty))
	$(if $(FUZZ_TARGETS),RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --profile $(FUZZ_PROFILE) \
		--manifest-path fuzz/Cargo.toml --target "$(RUST_HOST)" --target-dir "$(FUZZ_DIR)")

.PHONY: fuzz-smoke
fuzz-smoke: SECONDS_EACH := $(SMOKE_SECONDS)
fuzz-smoke: FUZZ_PROFILE := smoke
fuzz-smoke: $(FUZZ_TARGETS:%=fuzz-one-%) ## Ten seconds of each fuzz target

.PHONY: fuzz
fuzz: SECONDS_EACH := $(FUZZ_SECONDS)
fuzz: $(FUZZ_TARGETS:%=fuzz-one-%) ## Ten minutes of each fuzz target

# Stories of a session want many operations; left alone, the fuzzer begins with short ones.
FUZZ_ARGS_session := -len_control=0 -max_len=2048

# New inputs go to a scratch corpus; the committed one is read. What crashed stays in fuzz/artifacts.
fuzz-one-%: fuzz-build
	@scratch="$(FUZZ_DIR)/corpus/$*"; mkdir -p "$$scratch" "fuzz/corpus/$*" "fuzz/artifacts/$*"; \
	echo "fuzz $*: $(SECONDS_EACH) s"; \
	"$(FUZZ_DIR)/$(RUST_HOST)/$(FUZZ_PROFILE)/$*" -max_total_time=$(SECONDS_EACH) -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
		-print_final_stats=1 $(FUZZ_ARGS_$*) -artifact_prefix="fuzz/artifacts/$*/" "$$scratch" "fuzz/corpus/$*"

.PHONY: bench
bench: build-tools ## Criterion benches
	$(CARGO) bench --locked

.PHONY: bench-build
bench-build: ## Do the benches compile, and run once?
	$(CARGO) test --locked --benches

.PHONY: load
load: build-tools ## Server and load client on a core each, LISTENERS="500 1000" FOR=60s …: the table of the README, and its plot
	$(CARGO) build --locked --release
	$(CARGO) bench --locked --no-run --bench load
	BARE="$(CARGO) bench --quiet --locked --bench load -- bare" DIR="$(TARGET_DIR)/load" bash benches/load.sh "$(VOXCAST_BIN)"
	@$(CARGO) bench --locked --bench load -- "$(TARGET_DIR)/load/load.svg" "$(TARGET_DIR)"/load/*.json 2> /dev/null

.PHONY: soak
soak: build-tools ## LISTENERS=1000 of whom CHURN=20 come and go each second, FOR=30m: is memory flat, and is nothing left behind?
	$(CARGO) build --locked --release
	bash benches/soak.sh "$(VOXCAST_BIN)"

# Optional, because installing it takes longer than the rest of a run.
.PHONY: deny
deny: ## Licences, bans and sources of dependencies, where cargo-deny is installed
	@if $(CARGO) deny --version > /dev/null 2>&1; then $(CARGO) deny --offline check licenses bans sources; \
	else echo "cargo-deny is not installed: skipped"; fi
