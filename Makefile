# Every command of this project: `make help` lists them.
# Variables: CUDA=1 (MLX's CUDA build), MLX_ROOT=DIR (an MLX of your own), HUB=1 (downloads from the Hugging
# Face hub), SWIFT=1 (fetch a Swift toolchain for the tests), STATIC=1 (install libmlxrt.a too), PREFIX=DIR and
# DESTDIR=DIR (for install).

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
CC ?= cc
CFLAGS ?= -O2
target := $(or $(CARGO_TARGET_DIR),target)
# What users get, installed inside the target folder: the C, Go and Swift tests run on it.
stage := $(abspath $(target)/stage)
variant := $(if $(filter 1,$(CUDA)),cuda,cpu)
features := $(if $(filter 1,$(CUDA)),--features cuda) $(if $(filter 1,$(HUB)),--features hub)
swift := $(if $(filter 1,$(SWIFT)),swift)
# MLX's CUDA build needs the driver, which the machine that links may lack.
comma := ,
link_flags := $(if $(filter 1,$(CUDA)),-Wl$(comma)--allow-shlib-undefined)
export CUDA HUB SWIFT STATIC
# Cargo builds MLX's bindings anew whenever this changes, from unset to empty too.
ifneq ($(MLX_ROOT),)
export MLX_ROOT
endif

.DEFAULT_GOAL := build
.PHONY: help build demo test soak fuzz lint header bench bench-cpu install setup fetch clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@sed -n '2,4s/^# //p' $(firstword $(MAKEFILE_LIST))

build: fetch ## build the library and install it into target/stage
	$(CARGO) build --release --locked $(features)
	@DESTDIR= sh tools/install.sh $(stage)

# build.rs fetches MLX too, but Cargo hides what a build script prints until it fails.
fetch:
	@sh tools/setup.sh build
	@sh tools/fetch.sh $(variant) $(target)

demo: build ## build everything and watch a small model answer, token by token
	$(CC) -std=c11 $(CFLAGS) -Wall -Wextra -o $(target)/demo examples/demo.c \
		-I$(stage)/include -L$(stage)/lib -lmlxrt -Wl,-rpath,$(stage)/lib $(link_flags)
	@echo
	@$(target)/demo demo/model

test: ## run every test and end with a count and the names of what was skipped
	@sh tools/setup.sh test $(swift)
	@sh tools/fetch.sh $(variant) $(target)
	@sh tools/test.sh

soak: fetch ## 64 threads on one model for 600 s (or SECONDS=N): right answers, no leak, nobody stuck
	MLXRT_SOAK_SECONDS=$(or $(SECONDS),600) \
		$(CARGO) test --release --locked $(features) --test soak -- --nocapture

fuzz: fetch ## break what is read from files, 60 s (or SECONDS=N) for each kind
	@sh tools/fuzz.sh $(or $(SECONDS),60)

lint: build ## check formatting and warnings of all languages, and that the header is up to date
	@sh tools/setup.sh lint $(swift)
	@sh tools/lint.sh

header: ## write include/mlxrt.h anew from src/ffi
	MLXRT_UPDATE_HEADER=1 $(CARGO) test --release --locked --test header
	@git --no-pager diff --stat -- include/mlxrt.h || true

bench: build ## measure prefill, decode and memory
	@sh bench/run.sh

bench-cpu: build ## measure this CPU beside llama.cpp and mlx-lm
	@BENCH_ONLY=cpu sh bench/run.sh

install: ## install into PREFIX (/usr/local), below DESTDIR if that is set; run `make` before
	@sh tools/install.sh "$(PREFIX)"

setup: ## install what the build and the tests need, or say what is missing
	@sh tools/setup.sh test lint $(swift)

clean: ## delete what was built; MLX and other downloads stay (target/mlx, target/tools)
	$(CARGO) clean --release
	rm -rf $(target)/stage $(target)/test $(target)/demo
