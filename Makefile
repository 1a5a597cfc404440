# Two commands: `make run` shows a federation, `make test` checks everything.
# Both find out what this machine lacks, say so, and install it where they can.

# Finds Rust as rustup installs it also in a shell that was started before.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
export CARGO ?= cargo
# One profile for everything: RocksDB, most of a first build, is compiled once.
BUILD := --release --locked
FAMA_ARGS ?=

.PHONY: help run test wheel bench grow peers pictures fuzz crash faults flips hostile mixed simulate build package needs needs-test needs-package fmt lint docs unit counts
.NOTPARALLEL:

help:
	@echo "make run    a federation of four nodes on this machine, until Ctrl-C"
	@echo "            FAMA_ARGS='--ratings FILE' and others: see \`fama demo --help\`"
	@echo "make test   formatting, lints, documentation and all tests"
	@echo "make bench  what parts and whole nodes do, next to what they cannot do without: one table, in two minutes"
	@echo "            PART=renewals: an idle federation's cost, and the age of proofs, in four minutes"
	@echo "            PART=signatures: batches of signatures, next to libsecp256k1 one by one"
	@echo "            PART=tokens: how many tokens a node issues, next to bare signatures"
	@echo "make counts how many instructions each part takes, next to the committed figure, with Valgrind"
	@echo "make grow   a node's data folder of N=1000000 made-up events, then what a node with it costs;"
	@echo "            DATA=FOLDER continues there, IDENTITIES=N/10, PROVIDERS=5000, SEED=1"
	@echo "make peers  what comparable systems do with the same N=10000 events, in one run: benches/README.md"
	@echo "make pictures the pictures of the papers, from a demonstration and from the runs of make grow"
	@echo "make fuzz   all decoders against bad inputs: SECONDS=60 for all together, SEED=…;"
	@echo "            batches of signatures against single checks: BATCHES=20000"
	@echo "make crash  kills a node under load: CRASHES=1000"
	@echo "make hostile a federation under attack: SECONDS=60"
	@echo "make mixed  asks a node everything that its OpenAPI documents describe: REQUESTS=100000"
	@echo "make faults fails a node's disk, call by call: FAULTS=1000"
	@echo "make flips  flips bits of a data folder, one by one: FLIPS=10000"
	@echo "make simulate whole federations on simulated time, network and disks: RUNS=10000, SEED=…"
	@echo "make build  the program alone: target/release/fama"
	@echo "make package a Debian package and an image, in target/package: FAMA_BASE=NAME for another base"

run: build
	@$(CARGO) run $(BUILD) --quiet --package fama-cli --bin fama -- demo $(FAMA_ARGS)

build: needs
	@$(CARGO) build $(BUILD) --package fama-cli --bin fama

package: needs-package
	@$(CARGO) build $(BUILD) --package fama-cli --bin fama
	@.cargo/package.sh deb image

bench: needs
	@$(CARGO) run $(BUILD) --quiet --package fama-benches -- $(PART)

# Every event is signed, verified and appended. A run that was stopped, or ended at a smaller N, continues in its folder.
N ?= 1000000
grow: needs
	@$(CARGO) run $(BUILD) --quiet --package fama-benches -- grow events=$(N) $(DATA:%=data=%) \
		$(IDENTITIES:%=identities=%) $(PROVIDERS:%=providers=%) $(SEED:%=seed=%)

# Installs the others into the target folder, in the versions that benches/peers names.
peers: N = 10000
peers: build
	@python3 benches/peers/run.py $(N)

# Screenshots need Chromium, Node.js and playwright-core, as tests of foreign software do.
pictures: build
	@FAMA_FOREIGN=1 .cargo/needs.sh test
	@node tests/browser/pictures.mjs "$${CARGO_TARGET_DIR:-target}/release/fama" docs/pictures
	@$(CARGO) run $(BUILD) --quiet --package fama-benches -- plot docs/pictures/growth.svg

test: needs-test fmt lint docs wheel unit counts

# The Python module, where the tests find it.
wheel:
	@.cargo/wheel.sh

needs:
	@.cargo/needs.sh build
	@.cargo/rocksdb.sh

needs-test:
	@.cargo/needs.sh test
	@.cargo/rocksdb.sh

needs-package:
	@.cargo/needs.sh package
	@.cargo/rocksdb.sh

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy $(BUILD) --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(BUILD) --workspace --no-deps --quiet

# With cargo-nextest each test is a process of its own; without it, cargo's own runner does.
unit:
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --cargo-profile release --locked --workspace --no-fail-fast; \
	else \
		$(CARGO) test $(BUILD) --workspace --no-fail-fast; \
	fi

# Instructions of what a node runs for every event, held to the figures in benches/src/instructions.rs.
counts:
	@bin="$(abspath $(or $(CARGO_TARGET_DIR),target))/foreign/bin"; \
	if command -v valgrind >/dev/null && [ -x "$$bin/gungraun-runner" ]; then \
		PATH="$$bin:$$PATH" $(CARGO) bench --locked --workspace --bench instructions; \
	elif [ -n "$$FAMA_FOREIGN" ]; then \
		echo "counts: no valgrind, or no gungraun-runner in $$bin" >&2; exit 1; \
	else \
		echo "skipped: instruction counts, since valgrind or gungraun-runner is not here"; \
	fi

# The short form is part of `make test`. A failure names the decoder, the seed and the input.
SECONDS ?= 60
BATCHES ?= 20000
fuzz:
	FAMA_FUZZ_SECONDS=$(SECONDS) FAMA_FUZZ_BATCHES=$(BATCHES) FAMA_FUZZ_SEED=$(SEED) \
		$(CARGO) test $(BUILD) --package fama-tests --test fama -- fuzz:: --nocapture

# The short form, 150 flips, is part of `make test`.
FLIPS ?= 10000
flips: needs
	FAMA_FLIPS=$(FLIPS) $(CARGO) test $(BUILD) --package fama-tests --test fama -- every_flipped_bit --nocapture

# The short form, 100 kills, is part of `make test`.
CRASHES ?= 1000
crash: needs
	FAMA_CRASHES=$(CRASHES) $(CARGO) test $(BUILD) --workspace --test fama -- crash:: --nocapture

# The short form, of half a minute, is part of `make test`. From SECONDS=60 on there are 400 silent peers, else 100.
hostile: needs
	FAMA_HOSTILE_SECONDS=$(SECONDS) $(CARGO) test $(BUILD) --workspace --test fama -- hostile:: --nocapture

REQUESTS ?= 100000
mixed: needs
	FAMA_MIXED=$(REQUESTS) $(CARGO) test $(BUILD) --workspace --test fama -- mixed:: --nocapture

# The short form, each kind of fault once, is part of `make test`.
FAULTS ?= 1000
faults: needs
	FAMA_FAULTS=$(FAULTS) $(CARGO) test $(BUILD) --workspace --test fama -- faults:: --nocapture

# The short form, 300 runs, is part of `make test`. A failure names the promise, the seed and what happened.
RUNS ?= 10000
simulate: needs
	FAMA_SIMULATE_RUNS=$(RUNS) FAMA_SIMULATE_SEED=$(SEED) \
		$(CARGO) test $(BUILD) --package fama-tests --test fama -- simulation::federations --nocapture
