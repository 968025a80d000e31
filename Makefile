# Lockgate's commands. `make` lists them.

.DEFAULT_GOAL := help
.PHONY: help run console test fuzz simulate check bench bench-facts bench-limits bench-ledger

# Arguments for the program behind a target: make run ARGS="--api-listen 127.0.0.1:9090"
ARGS ?=

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-9s %s\n", $$1, $$2}'

# The console is embedded in the binary, so it is built first. The release profile is what production runs; the first
# build takes some minutes, later ones seconds. `make run PROFILE=dev` builds faster and runs slower.
PROFILE ?= release
run: console ## Build everything and start Lockgate on this machine, with a sample upstream
	cargo run --locked --profile $(PROFILE) --bin lockgate -- dev $(ARGS)

# npm installs exactly what the lock file names, and only when that has changed.
web/node_modules/.installed-lock.json: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	cp $< $@

console: web/node_modules/.installed-lock.json ## Build the console into web/dist
	cd web && npm run build

test: ## Run every test on SQLite and on Postgres, and print the totals
	python3 tests/run.py $(ARGS)

# Each property is tried on a few hundred cases in `make test`, and here on as many as you have time for.
CASES ?= 20000
fuzz: ## Try the data plane's properties on many more random cases: make fuzz CASES=100000
	PROPTEST_CASES=$(CASES) cargo test --locked -p data-plane --lib -- properties $(ARGS)

# A few thousand of them run in `make test`. A schedule that fails says its seed: LOCKGATE_SEED=n SCHEDULES=1.
SCHEDULES ?= 100000
simulate: ## Try the usage ledger and limits under random schedules of failures: make simulate SCHEDULES=1000000
	LOCKGATE_SCHEDULES=$(SCHEDULES) cargo test --locked -p data-plane --lib -- simulation $(ARGS)
	LOCKGATE_SCHEDULES=$(SCHEDULES) cargo test --locked -p tests --test it -- simulation $(ARGS)

check: ## Check format, lints, documentation and dependencies, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing: cargo install cargo-deny --locked"; exit 1; }
	cargo deny --log-level error check bans licenses sources

bench-facts: ## Measure what it costs to read usage from answers
	cargo bench --locked -p data-plane --bench facts $(ARGS)

bench-limits: ## Measure what it costs to take from the limits of 100,000 keys, and to settle
	cargo bench --locked -p data-plane --bench limits $(ARGS)

# As a server that is used: the tests' Postgres has no autovacuum, hence no statistics, and little memory.
bench-ledger: export LOCKGATE_POSTGRES_OPTIONS ?= -c autovacuum=on -c shared_buffers=1GB
bench-ledger: ## Fill a Postgres through the real ingest and measure it: make bench-ledger ARGS="--records 10000000"
	cargo run --locked --release -p tests --bin ledger -- $(ARGS)

bench: ## Measure CPU, latency and memory of the data plane against a bare pass-through and nginx
	cargo build --locked --release -p lockgate
	cargo run --locked --release -p tests --bin load -- $(ARGS)
