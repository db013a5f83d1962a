# The developer's commands. `make test` is what a change must pass.
#
#   make setup   install what is missing (Debian packages; touches no service)
#   make build   release binary target/release/pgpool
#   make lint    formatting and clippy, warnings are errors
#   make test    all of: setup, lint, unit, simulation, compat, routing, pcp-replay
#   make unit    cargo test
#   make simulation  random histories of failovers, of recoveries, of sessions that balance and of
#                watchdog nodes; SIM_SEED repeats one
#   make compat  the compat tests against real servers; PATTERN=... runs some of them
#   make stock   the same against the original
#   make auth-matrix  every way of logging in, both subjects (part of the compat tests, cell by cell)
#   make random  random conversations under load balancing, compared with PostgreSQL: more than the
#                compat tests hold; ROUNDS sets how many, COMPAT_SEED repeats them
#   make routing  recorded cases of where statements go (CASES=file for others of that form)
#   make pcp-replay  recorded PCP dialogues against ours
#   make pg-regress  PostgreSQL's own regression suite directly and through us (fetches its source, four minutes)
#   make grammar-check  what routing reads from statements against PostgreSQL's own grammar (builds pg_query, three minutes)
#   make demo    a cluster of three servers behind pgpool, and a failover, in a minute
#   make bench   speed and memory beside the original and PgBouncer, and for how long a failover stops writes
#   make deny    licences and known vulnerabilities of the crates (needs cargo-deny)
#   make man     read the manual page
#
# PGPOOL_SEED=folder holds the files of the system in use, which the compat tests run unchanged
# (../shared/seed if not set; skipped when they are not there).
# COMPAT_SLOW=3 makes the compat tests three times as patient on a slow or busy machine.

SHELL := /bin/bash
CARGO ?= cargo
PATTERN ?=
CASES ?= fixtures/routing/cases.tsv
PGREGRESS ?=
ROUNDS ?= 1000
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: all help setup build lint test unit simulation compat drivers auth-matrix random routing pcp-replay stock pg-regress grammar-check demo bench deny man clean

all: build

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

setup:
	compat/setup

build:
	$(CARGO) build --release --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

unit:
	$(CARGO) test --locked

# Random histories of the cores of failover, recovery and watchdog and of the router, 100,000 of each; the
# seeds are printed. Those of the watchdog are the same each time: make random has new ones.
simulation:
	$(CARGO) test --locked --profile simulation --lib -- failover::sim recovery::sim router::sim watchdog::sim --nocapture

compat: build drivers
	compat/run --subject ours $(PATTERN)

# The Rust programs that the compat tests run: drivers of applications, and pgpool in modes that it refuses.
drivers:
	$(CARGO) build --locked --quiet --example driver-login --example driver-work --example any-mode

# The same tests against the original: how a new test is proved.
stock: drivers
	compat/run --subject stock $(PATTERN)

auth-matrix: build
	compat/auth-matrix --subject stock
	compat/auth-matrix --subject ours

random: build
	SIM_HISTORIES=200000 $(CARGO) test --locked --profile simulation --lib -- router::sim watchdog::sim --nocapture
	COMPAT_ROUNDS=$(ROUNDS) COMPAT_SLOW=5 compat/run --subject ours test_random.

routing: build
	compat/routing --cases $(CASES) --subject ours

pcp-replay: build
	compat/pcp-replay fixtures/pcp --subject ours

# Not part of `make test`. PGREGRESS holds arguments, for instance --only=transactions,portals.
pg-regress: setup build
	compat/pg-regress --subject ours $(PGREGRESS)

# Not part of `make test`: a workspace of its own, as pg_query needs libclang to build.
grammar-check:
	compat/setup --grammar
	$(CARGO) build --locked --quiet --release --manifest-path tests/grammar/Cargo.toml --target-dir $(TARGET)/grammar
	$(CARGO) test --locked --quiet --release --manifest-path tests/grammar/Cargo.toml --target-dir $(TARGET)/grammar
	source=$$(compat/pg-source) && $(TARGET)/grammar/release/grammar-check "$$source"

test: setup lint unit simulation compat routing pcp-replay

demo: setup build
	compat/demo

bench: setup build
	compat/bench

deny:
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing; this takes some minutes: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --locked check

man:
	man -l man/pgpool.8

clean:
	$(CARGO) clean
