# Verbs over the presets and scripts; `make` alone lists them. BUILD=dev|release|asan|cuda picks the preset.
BUILD ?= release
MODEL ?= smollm2

.PHONY: help build test gpu-test test-all test-adapt format tidy checks sanitize bench model quickstart clean
help: ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

build: ## build a preset: BUILD=release (default), dev, asan, cuda
	cmake --preset $(BUILD) -DCGA_TESTS=ON -DCGA_BENCH=ON
	cmake --build --preset $(BUILD)

test: build ## build, then run the tests
	ctest --preset $(BUILD)

gpu-test: ## build, then run the tests that need a GPU (elsewhere they are skipped)
	$(MAKE) build BUILD=cuda
	ctest --preset cuda -L gpu

test-all: ## what CI runs but for test-adapt: packages, build, model, checks, tests
	tools/test.sh

test-adapt: ## the tests of tools/adapt, in a Python environment made for them
	tools/adapt/test.sh

format: ## format all C++ files
	tools/checks/format --fix

checks: ## run all checks of tools/checks (needs the release preset built)
	tools/checks/run

tidy: ## clang-tidy over every file
	cmake --preset release
	tools/checks/tidy --all

sanitize: ## run the tests under the address and undefined-behaviour sanitizers
	$(MAKE) test BUILD=asan

bench: build ## run the kernel benchmarks against their floors
	@for program in build/$(BUILD)/bench_*; do echo "== $$program"; $$program || exit 1; done

model: ## fetch a model: MODEL=smollm2, qwen0.5b or qwen1.5b
	tools/fetch-model $(MODEL)

quickstart: ## build, fetch the default model, ask it a question
	tools/quickstart.sh

clean: ## remove the build folders
	rm -rf build
