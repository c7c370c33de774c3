# weir: make help lists the targets. Everything is built under $(B); `make B=build-x CC=clang` builds beside it.
B      ?= build
CC     ?= gcc
CSTD   := -std=c11 -D_GNU_SOURCE
WARN   := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter
OPT    ?= -O2 -g
CFLAGS  = $(CSTD) $(WARN) $(OPT) $(SAN) -pthread -I. $(PKG_CFLAGS)
PKGS   := lua5.4 libcjson libpcre2-8
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LIBS    = $(PKG_LIBS) -lm -ldl -pthread

SRC    := $(filter-out runtime/main.c,$(wildcard runtime/*.c gen/*.c tuner/*.c))
OBJ     = $(SRC:%.c=$(B)/%.o) $(B)/gen/embedded.o
TSUP   := $(filter-out $(wildcard tests/test_*.c tests/fuzz_*.c),$(wildcard tests/*.c tests/emu/*.c))
TOBJ    = $(TSUP:%.c=$(B)/%.o)
TESTS  := $(wildcard tests/test_*.c)
TBIN    = $(TESTS:tests/%.c=$(B)/tests/%)
LUA    := $(wildcard gen/*.lua gen/kernels/*.lua gen/chat/*.lua templates/*.t)

.PHONY: all test test-gpu asan fuzz bench tune report bundle format help deps model demo clean
.SECONDARY:

all: $(B)/weir

$(B)/weir: $(B)/runtime/main.o $(B)/libweir.a
	$(CC) $(OPT) $(SAN) -o $@ $^ $(LIBS)

$(B)/libweir.a: $(OBJ)
	@rm -f $@
	ar rcs $@ $^

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
	$(CC) $(OPT) $(SAN) -rdynamic -o $@ $^ -lcmocka $(LIBS)

test: $(B)/weir $(TBIN)
	@sh tests/run.sh $(TBIN)

format:
	clang-format -i $(wildcard runtime/*.[ch] gen/*.[ch] tuner/*.[ch] tests/*.[ch] tests/emu/*.[ch])

clean:
	rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
