# `make` or `make help` lists the targets. CONTRIBUTING.md tells the rest.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where `make install` puts things.
PREFIX  ?= /usr/local
DESTDIR ?=
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR  ?= $(PREFIX)/share/zsh/site-functions
FISHCOMPDIR ?= $(PREFIX)/share/fish/vendor_completions.d

# The binary that `make install`, `make man` and `make completions` use:
# `make install BIN=bin/rbdbackupfs-static` on a host without Ceph.
BIN ?= bin/rbdbackupfs

# go-ceph's build tag for the installed librbd; empty = derived from its headers.
TAGS ?=

# Packages and extra flags for the tests: make test PKG=./fs TESTFLAGS='-run Mount -v'
PKG       ?= ./...
TESTFLAGS ?=
FUZZTIME  ?= 30s

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)

LINT_VERSION := $(shell sed -n 's|.*golangci/golangci-lint/v2 \(v[0-9.]*\).*|\1|p' tools/go.mod)
# Built anew for a newer Go: an older one refuses to check its code.
LINT := .tools/golangci-lint-$(LINT_VERSION)-$(shell go env GOVERSION 2>/dev/null)

export CEPH_BUILD_TAGS = $(TAGS)

.PHONY: help
help: ## list the targets
	@echo 'rbdbackupfs: browse Ceph RBD backups as files'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Build ######################################################################

.PHONY: build
build: ## bin/rbdbackupfs, with Ceph; installs librbd's headers when they are missing
	@scripts/deps.sh build ceph-dev || { echo 'Without Ceph: make build-static' >&2; exit 1; }
	@mkdir -p bin
	tags=$${CEPH_BUILD_TAGS:-$$(scripts/ceph-tags.sh)} && \
	CGO_ENABLED=1 go build -trimpath -tags "$$tags" -ldflags '$(LDFLAGS)' -o bin/rbdbackupfs ./cmd/rbdbackupfs

.PHONY: build-static
build-static: ## bin/rbdbackupfs-static: everything but Ceph, needs no library
	@scripts/deps.sh go
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -tags noceph -ldflags '-s -w $(LDFLAGS)' -o bin/rbdbackupfs-static ./cmd/rbdbackupfs
	@scripts/check-static.sh bin/rbdbackupfs-static

.PHONY: man
man: $(BIN) ## build/man: the man pages
	@rm -rf build/man && mkdir -p build/man
	$(BIN) docs man build/man

.PHONY: completions
completions: $(BIN) ## build/completions: for bash, zsh and fish
	@rm -rf build/completions && mkdir -p build/completions
	$(BIN) completion bash >build/completions/rbdbackupfs
	$(BIN) completion zsh >build/completions/_rbdbackupfs
	$(BIN) completion fish >build/completions/rbdbackupfs.fish

bin/rbdbackupfs:
	@$(MAKE) --no-print-directory build

bin/rbdbackupfs-static:
	@$(MAKE) --no-print-directory build-static

.PHONY: install
install: man completions ## binary, man pages and completions below PREFIX (/usr/local)
	install -D -m 0755 $(BIN) '$(DESTDIR)$(BINDIR)/rbdbackupfs'
	install -d '$(DESTDIR)$(MANDIR)/man1'
	install -m 0644 build/man/*.1 '$(DESTDIR)$(MANDIR)/man1/'
	install -D -m 0644 build/completions/rbdbackupfs '$(DESTDIR)$(BASHCOMPDIR)/rbdbackupfs'
	install -D -m 0644 build/completions/_rbdbackupfs '$(DESTDIR)$(ZSHCOMPDIR)/_rbdbackupfs'
	install -D -m 0644 build/completions/rbdbackupfs.fish '$(DESTDIR)$(FISHCOMPDIR)/rbdbackupfs.fish'

## Look #######################################################################

.PHONY: demo
demo: ## a tour on real backups that come with the source: about a minute, no Ceph
	@scripts/deps.sh demo
	@$(MAKE) --no-print-directory build-static
	@RBDBACKUPFS='$(CURDIR)/bin/rbdbackupfs-static' scripts/demo.sh

## Check ######################################################################

.PHONY: test
test: ## every test; installs what they need, skips what this machine can't do
	@scripts/deps.sh build
	@scripts/deps.sh --try ceph-dev test
	@PKG='$(PKG)' TESTFLAGS='$(TESTFLAGS)' scripts/test.sh all

.PHONY: unit
unit: ## the quick tests of the packages, without -race and without tests/
	@PKG='$(PKG)' TESTFLAGS='$(TESTFLAGS)' scripts/test.sh unit

.PHONY: lint
lint: $(LINT) ## gofmt, go vet, golangci-lint, shellcheck
	@LINT='$(LINT)' scripts/lint.sh

# Built from the pinned sources, so that it is compiled by the Go that compiles
# the project. A few minutes the first time, nothing afterwards.
$(LINT): tools/go.mod tools/go.sum
	@echo 'Building golangci-lint $(LINT_VERSION), which takes a few minutes the first time.'
	@mkdir -p .tools
	@cd tools && GOFLAGS=-mod=readonly nice go build -trimpath -o '../$(LINT).new' github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@mv '$(LINT).new' '$(LINT)'

.PHONY: fmt
fmt: ## gofmt everything
	gofmt -s -w $$(git ls-files '*.go')

.PHONY: fixtures
fixtures: ## make the committed test data anew, with a real cluster
	@scripts/deps.sh build test
	@scripts/fixtures.sh

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	@FUZZTIME='$(FUZZTIME)' PKG='$(PKG)' scripts/fuzz.sh

.PHONY: bench
bench: ## every benchmark; OLD=file compares with an earlier run
	@PKG='$(PKG)' scripts/bench.sh $(OLD)

.PHONY: deps
deps: ## install everything that building, testing and linting need
	@scripts/deps.sh build ceph-dev test lint

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build

.PHONY: distclean
distclean: clean ## also remove the tools
	rm -rf .tools .cache
