.DEFAULT_GOAL := help
SHELL := bash

# Kept from run to run: `scripts/services down` removes only what it made.
PYTHON_VENV := .services/python
PEER_VENV := .services/peer
AXE := .services/axe
SEAWEEDFS := .services/seaweedfs
POSTGRES := .services/postgres
DENY := .services/deny
CDXGEN := .services/cdxgen
DEPLOY := .services/deploy

# Homebrew keeps these libraries where pkg-config does not look.
KEGS := $(wildcard $(foreach prefix,/opt/homebrew /usr/local,$(addprefix $(prefix)/opt/,libpq/lib/pkgconfig openssl@3/lib/pkgconfig curl/lib/pkgconfig cyrus-sasl/lib/pkgconfig)))
ifneq ($(KEGS),)
space := $() $()
export PKG_CONFIG_PATH := $(subst $(space),:,$(KEGS)):$(PKG_CONFIG_PATH)
endif

# Of PostgreSQL, for test-postgres.
VERSIONS := 14 18

# What the image is built with. The second needs libraries that only few have use for, and is tested by test-logins.
SHIPPED := traces
LOGINS := kerberos,oidc
# The laboratory ends processes at named points; the benchmark takes guards down. The product has neither.
TESTED := --features crash-points,unguarded,$(SHIPPED)

.PHONY: help
help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## Campaigns earning money, with nothing else installed: FOR=30s ends by itself, DATA=dir keeps the data, ARGS="…" for more
	scripts/prerequisites demo --install
	@scripts/before-compiling
	cargo run --profile demo --locked --bin adflux -- demo $(if $(FOR),--for '$(FOR)') $(if $(DATA),--data '$(DATA)') $(ARGS)

.PHONY: build
build: ## The binary as it is in the image, in target/dist
	scripts/prerequisites build --install
	cargo build --profile dist --locked --features $(SHIPPED),$(LOGINS)

.PHONY: dist
dist: build sbom ## The same, and beside it what Cargo.lock has it built from: adflux.cdx.json (CycloneDX)

.PHONY: sbom
sbom: $(CDXGEN)/ready
	mkdir -p $${CARGO_TARGET_DIR:-target}/dist
	$(CDXGEN)/node_modules/.bin/cdxgen --type cargo --no-install-deps --no-recurse --spec-version 1.6 \
	    --output $${CARGO_TARGET_DIR:-target}/dist/adflux.cdx.json . >/dev/null

.PHONY: test
test: $(PYTHON_VENV)/ready $(AXE)/ready $(SEAWEEDFS)/ready $(VERSIONS:%=$(POSTGRES)-%/ready) ## Every test, and the benchmark once around, against Kafka, PostgreSQL, Redis and Chromium started for it
	ADFLUX_CHAOS_SEED=$(or $(SEED),1) ADFLUX_PYTHON=$(CURDIR)/$(PYTHON_VENV)/bin/python ADFLUX_AXE=$(CURDIR)/$(AXE)/node_modules/axe-core/axe.min.js \
	    ADFLUX_WEED=$(CURDIR)/$(SEAWEEDFS)/bin/weed \
	    scripts/with-services sh -c \
	    'cargo test --locked $(TESTED) && cargo bench --profile dev --locked $(TESTED) --bench pipeline -- --quick'
	$(MAKE) test-postgres

.PHONY: test-postgres
test-postgres: $(VERSIONS:%=$(POSTGRES)-%/ready) ## The store's tests against the oldest PostgreSQL and the newest: VERSIONS="14 15 16 17 18" for each
	@# Nothing else is started: the store speaks to nobody else. What needs a server in German is left out, as these speak English only.
	for version in $(VERSIONS); do \
	    env -u DATABASE_URL KAFKA_BROKERS=none REDIS_URL=none ADFLUX_POSTGRES_BIN=$(CURDIR)/$(POSTGRES)-$$version/bin \
	        scripts/with-services cargo test --locked $(TESTED) --test store -- --skip german || exit; done

.PHONY: test-logins
test-logins: ## Logins to Kafka by Kerberos and by OpenID Connect, against a KDC and a server of tokens
	scripts/prerequisites logins --install
	cargo test --locked $(TESTED),$(LOGINS) --lib kafka::
	scripts/with-services cargo test --locked $(TESTED),$(LOGINS) --test pipeline -- kerberos:: oidc::

.PHONY: chaos
chaos: test-prerequisites ## Break a running system and check every sum, about an hour: SEED=… MINUTES=… ARGS="--only 3,4"
	cargo test --release --locked --features crash-points --test chaos -- \
	    --minutes $(or $(MINUTES),60) $(if $(SEED),--seed '$(SEED)') $(ARGS)

.PHONY: chaos-mutants
chaos-mutants: test-prerequisites ## Show that the laboratory fails where a guard is removed: ARGS="fence" for one
	scripts/chaos-mutants $(ARGS)

.PHONY: fuzz
fuzz: ## Random bytes for every parser, MINUTES=1 each; TARGET=decoder for one. Needs nightly Rust and cargo-fuzz
	@cargo +nightly fuzz --version >/dev/null || { echo 'rustup toolchain install nightly && cargo install cargo-fuzz' >&2; exit 1; }
	@# No sanitizer: the code is safe Rust. What one input may take of memory is bounded.
	for target in $(or $(TARGET),decoder push query cursor connection url report); do \
	    cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$$((60 * $(or $(MINUTES),1))) \
	        -max_len=16384 -rss_limit_mb=512 -malloc_limit_mb=64 -print_final_stats=1 || exit; done

.PHONY: bench
bench: $(PEER_VENV)/ready ## The benchmarks, against the same services: JUDGE=1 fails when a goal is missed, QUICK=1 only shows that they work
	$(if $(JUDGE),ADFLUX_BENCH_JUDGE=true )ADFLUX_BENCH_PYTHON=$(CURDIR)/$(PEER_VENV)/bin/python scripts/with-services cargo bench --profile dist --locked --features unguarded,$(SHIPPED) --bench pieces --bench pipeline $(if $(QUICK),-- --quick)
	@echo "the pieces' figures, with those of the run before: $${CARGO_TARGET_DIR:-target}/criterion"

.PHONY: lint
lint: $(DENY)/ready $(DEPLOY)/ready ## Formatting, clippy, documentation, crates, links between pages, tables of endpoints, scripts, mutants, compose, chart, rules
	cargo fmt --check
	cargo clippy --locked -- -D warnings
	cargo clippy --all-targets --features crash-points,fuzzing,unguarded,$(SHIPPED) --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --locked
	diff <(sed -n '/endpoints: begin/,/endpoints: end/p' docs/api.md) <(cargo run --quiet --locked $(TESTED) --bin adflux -- openapi --format markdown)
	scripts/check-dependencies $(DENY)/bin/cargo-deny
	shellcheck .ci/run $$(find scripts -type f -perm -u+x)
	scripts/check-links
	for mutant in tests/chaos/mutants/*.patch; do git apply --check "$$mutant" || exit; done
	$(DEPLOY)/bin/python scripts/deploy/check.py $(DEPLOY)
	@if docker compose version >/dev/null 2>&1; then set -x; docker compose --profile console --profile monitoring config -q; \
	elif command -v docker-compose >/dev/null; then set -x; docker-compose --profile console --profile monitoring config -q; \
	else echo 'docker-compose.yml was not checked: Docker Compose is not installed'; fi

.PHONY: fmt
fmt: ## Format the code
	cargo fmt

.PHONY: services-up
services-up: test-prerequisites ## Start the services to develop against: source <(scripts/services env)
	scripts/services up

.PHONY: services-down
services-down: ## End them and remove their data
	scripts/services down

.PHONY: clean
clean: services-down ## Remove all that was built or started
	cargo clean
	rm -rf .services

.PHONY: image-test
image-test: ## Build the image, run docker-compose.yml, and check both: PROFILE=demo compiles sooner. Needs a container engine
	scripts/image-test

.PHONY: lint-prerequisites
lint-prerequisites:
	scripts/prerequisites lint --install

.PHONY: test-prerequisites
test-prerequisites:
	scripts/prerequisites test --install

# Other implementations of Avro and Parquet, and a maker of requests, for the tests to agree with.
$(PYTHON_VENV)/ready: scripts/python/requirements.txt | test-prerequisites
	python3 -m venv --clear $(PYTHON_VENV)
	$(PYTHON_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 -r $<
	touch $@

# What files are kept in as in S3.
$(SEAWEEDFS)/ready: scripts/seaweedfs/requirements.txt | test-prerequisites
	python3 -m venv --clear $(SEAWEEDFS)
	$(SEAWEEDFS)/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --require-hashes -r $<
	touch $@

# PostgreSQL's server, of a major version.
$(POSTGRES)-%/ready: scripts/postgres/pom.xml scripts/postgres/fetch | test-prerequisites
	scripts/postgres/fetch $* $(@D)
	touch $@

# What the benchmark stands beside.
$(PEER_VENV)/ready: scripts/python/peer.txt | test-prerequisites
	python3 -m venv --clear $(PEER_VENV)
	$(PEER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 -r $<
	touch $@

# What judges the crates that adflux is built from.
$(DENY)/ready: scripts/deny/requirements.txt | lint-prerequisites
	python3 -m venv --clear $(DENY)
	$(DENY)/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --require-hashes -r $<
	touch $@

# What reads the chart, Prometheus' rules and Grafana's board. promtool without what finds machines to scrape.
$(DEPLOY)/ready: scripts/deploy/go.mod scripts/deploy/go.sum scripts/deploy/requirements.txt scripts/deploy/schemas.py | lint-prerequisites
	python3 -m venv --clear $(DEPLOY)
	$(DEPLOY)/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --no-deps -r scripts/deploy/requirements.txt
	cd scripts/deploy && GOBIN=$(CURDIR)/$(DEPLOY)/bin go install -tags remove_all_sd tool
	$(DEPLOY)/bin/python scripts/deploy/schemas.py $(DEPLOY)/schemas
	touch $@

# What lists them. Not by `npm ci`: the list of versions lacks what is only for other machines.
$(CDXGEN)/ready: scripts/sbom/package.json scripts/sbom/package-lock.json
	scripts/prerequisites dist --install
	mkdir -p $(CDXGEN)
	cp $^ $(CDXGEN)
	npm install --prefix $(CDXGEN) --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error --fetch-retries=5
	touch $@

# What judges whether the page can be used by everybody.
$(AXE)/ready: scripts/axe/package.json scripts/axe/package-lock.json | test-prerequisites
	mkdir -p $(AXE)
	cp $^ $(AXE)
	npm ci --prefix $(AXE) --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=5
	touch $@
