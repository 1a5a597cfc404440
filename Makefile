# Two commands: `make run` shows a federation, `make test` checks everything.
# Both find out what this machine lacks, say so, and install it where they can.

CARGO ?= cargo
PROFILE := --release
FAMA_ARGS ?=

.PHONY: help run test build needs fmt lint docs unit fuzz demo-ratings clean

help:
	@echo "make run    a federation of four nodes on this machine, until Ctrl-C"
	@echo "make test   formatting, lints, documentation and all tests"
	@echo "make fuzz   all decoders against bad inputs: SECONDS=60 for all together, SEED=…"
	@echo "make build  the program alone: target/release/fama"

run: needs
	@$(CARGO) run $(PROFILE) --quiet --locked -p fama-cli --bin fama -- demo $(FAMA_ARGS)

build: needs
	$(CARGO) build $(PROFILE) --locked -p fama-cli

test: needs fmt lint docs unit

# RocksDB is C++ and its bindings are made with libclang: nothing else is needed beside Rust.
needs:
	@.cargo/needs.sh

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy $(PROFILE) --locked --workspace --all-targets -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(PROFILE) --locked --workspace --no-deps --quiet

# With cargo-nextest each test is a process of its own; without it, cargo's own runner does.
unit:
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --cargo-profile release --locked --workspace --no-fail-fast; \
	else \
		$(CARGO) test $(PROFILE) --locked --workspace --no-fail-fast; \
	fi

# The short form is part of `make test`. A failure names the decoder, the seed and the input.
SECONDS ?= 60
fuzz:
	FAMA_FUZZ_SECONDS=$(SECONDS) FAMA_FUZZ_SEED=$(SEED) \
		$(CARGO) test $(PROFILE) --locked -p fama-tests --test fama -- fuzz:: --nocapture
