# SPDX-License-Identifier: Apache-2.0
# Makefile - build, test and install rerankd.  GNU make; "make help" lists the targets.
#
#   make                        build/rerankd, build/librerank.a, build/librerank.so
#   make CC=clang DEBUG=1       the same in build/clang-debug; every configuration has its folder
#   make SAN=address,undefined  with sanitizers; also SAN=thread
#   make LAYERS="base tok"      a library of these layers alone, while others do not compile
#   make test T=json            only tests whose name contains "json"
#   make V=1                    shows whole commands

# ---- configuration ------------------------------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := $(if $(findstring clang,$(CC)),$(subst clang,clang++,$(CC)),$(subst gcc,g++,$(CC)))
endif
AR ?= ar
PKG_CONFIG ?= pkg-config
PYTHON ?= python3
HOST_ARCH := $(shell uname -m)
ARCH := $(or $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null))),$(HOST_ARCH))
DEBUG ?=
SAN ?=
LAYERS ?= $(filter-out server cli hub,$(notdir $(patsubst %/,%,$(wildcard src/*/))))
FUZZ_SECONDS ?= 60
T ?=
V ?=
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $1 $(@:$(OUT)/%=%)";)

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share

comma := ,
VERSION := $(shell sed -n 's/^\#define RR_VERSION "\(.*\)"/\1/p' include/rerank.h)
# 0.1 of 0.1.0, 1 of 1.2.3: structs that callers allocate may grow with 0.2, and with 2.
SOVERSION := $(firstword $(subst ., ,$(VERSION)))
SOVERSION := $(SOVERSION)$(if $(filter 0,$(SOVERSION)),.$(word 2,$(subst ., ,$(VERSION))))

# The plain build lives in build/, any other in build/<compiler>-<debug>-<sanitizers>.
CONFIG := $(filter-out gcc,$(notdir $(CC))) $(if $(DEBUG),debug) $(subst $(comma), ,$(SAN))
CONFIG := $(subst $() ,-,$(strip $(CONFIG)))
OUT ?= build$(if $(CONFIG),/$(CONFIG))
OBJ := $(OUT)/obj
# For makes of another configuration: an OUT of the command line would be theirs too.
sub_out = $(if $(filter command,$(origin OUT)),OUT=$(OUT)/$1)

# ---- flags --------------------------------------------------------------------------------------

LIB_PACKAGES := jansson libutf8proc libxxhash libpcre2-8 hiredis gnutls
APP_PACKAGES := libmicrohttpd libcurl libseccomp
PACKAGES := $(LIB_PACKAGES) $(APP_PACKAGES)

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wvla
ifneq ($(SAN),) # gcc's guesses about lengths go wrong in instrumented code
WARNINGS += $(if $(findstring gcc,$(CC)),-Wno-format-truncation -Wno-stringop-overflow)
endif
OPTIMIZE := $(if $(DEBUG),-O0 -g3,$(if $(SAN),-O1 -g,-O2 -g))
HARDEN := -fstack-protector-strong $(if $(DEBUG),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
SANITIZE := -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LINK_HARDEN := -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed
CFLAGS ?=
LDFLAGS ?=
DEFINES := -DRR_DATADIR='"$(DATADIR)/rerankd"'

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARNINGS) $(OPTIMIZE) -fPIC -fvisibility=hidden \
    $(if $(SAN),$(SANITIZE),$(HARDEN)) -Iinclude -Isrc $(DEFINES) $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(if $(SAN),$(SANITIZE),$(LINK_HARDEN)) $(LDFLAGS)
SYSTEM_LIBS := -lpthread -ldl -lm

ifeq ($(ARCH),$(HOST_ARCH))
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
LIBS := $(shell $(PKG_CONFIG) --libs $(LIB_PACKAGES) 2>/dev/null) $(SYSTEM_LIBS)
APP_LIBS := $(shell $(PKG_CONFIG) --libs $(APP_PACKAGES) 2>/dev/null)
CMOCKA_LIBS := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null || echo -lcmocka)
RUNNER :=
else # cross build: kernels and their tests only, they need no libraries
PKG_CFLAGS :=
LIBS := $(SYSTEM_LIBS)
RUNNER := qemu-$(ARCH) -L /usr/$(ARCH)-linux-gnu
endif

# Kernels: rounding must not depend on what the compiler contracts, so fused multiply-adds are
# written, never inferred.  One instruction set per file, named by the file.
KERNEL_FLAGS := $(if $(SAN),-O1,-O3) -fno-math-errno -ffp-contract=off
# A clamp may become two vector instructions only where nobody looks at exception flags; same bits.
SELECT_FLAGS := -fno-trapping-math
# An emulated instruction set is thousands of loops inlined into one function: a sanitizer there
# costs minutes of compilation and finds what it finds in the native levels.
EMUL_FLAGS := $(if $(SAN),-O1 -fno-sanitize=all,-O2) -fno-math-errno -ffp-contract=off \
    $(if $(filter x86_64,$(ARCH)),-mavx2 -mfma -mf16c)
isa_flags = $(strip \
    $(if $(findstring avx2,$1),-mavx2 -mfma -mf16c) \
    $(if $(findstring avxvnni,$1),-mavxvnni -mavx2 -mfma -mf16c) \
    $(if $(or $(findstring avx512,$1),$(findstring amx,$1)),-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c) \
    $(if $(or $(findstring avx512vnni,$1),$(findstring avx512bf16,$1),$(findstring amx,$1)),-mavx512vnni) \
    $(if $(or $(findstring avx512bf16,$1),$(findstring amx,$1)),-mavx512bf16) \
    $(if $(findstring amx,$1),-mamx-tile -mamx-int8 -mamx-bf16) \
    $(if $(findstring dotprod,$1),-march=armv8.2-a+dotprod) \
    $(if $(findstring i8mm,$1),-march=armv8.6-a))
file_flags = $(if $(filter tests/%,$1),-Itests) \
    $(if $(filter tests/kern/emul/%,$1),$(EMUL_FLAGS) -Itests/kern/emul) \
    $(if $(filter src/cpu/% src/quant/%,$1),$(KERNEL_FLAGS) $(call isa_flags,$(notdir $1))) \
    $(if $(findstring /weights,$1),$(SELECT_FLAGS))

# ---- sources ------------------------------------------------------------------------------------

CPU_DIR := $(if $(filter x86_64,$(ARCH)),x86,$(if $(filter aarch64,$(ARCH)),arm))
CPU_SRC := $(wildcard src/cpu/*.c) $(if $(CPU_DIR),$(wildcard src/cpu/$(CPU_DIR)/*.c))
LIB_SRC := $(sort $(foreach l,$(filter-out cpu,$(LAYERS)),$(wildcard src/$(l)/*.c)) \
    $(if $(filter cpu,$(LAYERS)),$(CPU_SRC)))
ifneq ($(ARCH),$(HOST_ARCH))
LIB_SRC := $(CPU_SRC) $(filter-out src/base/json.c,$(wildcard src/base/*.c))
endif
APP_SRC := $(filter-out src/main.c,$(wildcard src/*.c src/cli/*.c src/hub/*.c src/server/*.c))
PLUGIN_SRC := tests/support/fake_backend.c tests/support/failing.c
SUPPORT_SRC := $(filter-out $(PLUGIN_SRC),$(wildcard tests/support/*.c))
KERN_SUPPORT_SRC := $(wildcard tests/kern/*/*.c)

objects = $(patsubst %.c,$(OBJ)/%.o,$1)
programs = $(patsubst %.c,$(OUT)/%,$1)

LIB := $(OUT)/librerank.a
SO := $(OUT)/librerank.so.$(SOVERSION)
APP := $(OBJ)/app.a
SUPPORT := $(OBJ)/support.a
KERN_SUPPORT := $(OBJ)/kern_support.a
FAULT := $(OUT)/tests/unit/librerank_fault.so
FAILING := $(OUT)/tests/support/libfailing.so
RERANKD := $(OUT)/rerankd

UNIT := $(call programs,$(wildcard tests/unit/test_*.c))
KERN := $(call programs,$(wildcard tests/kern/*.c))
BACKEND := $(call programs,$(wildcard tests/backend/*.c))
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
REPLAY := $(FUZZERS:%=$(OUT)/tests/fuzz/replay_%)
TEST_PROGRAMS := $(UNIT) $(KERN) $(BACKEND) $(REPLAY)
BENCH := $(call programs,$(wildcard bench/*.c))
EXAMPLES := $(call programs,$(wildcard examples/*.c))

# ---- building -----------------------------------------------------------------------------------

.PHONY: all lib so run deps examples test test-all test-unit test-programs test-san test-arm test-api test-eval bench fuzz fuzz-run \
    install uninstall check check-layers check-headers check-docs docs format clean help
.SECONDARY:
.DELETE_ON_ERROR:

all: $(RERANKD) $(LIB) $(if $(SAN),,$(OUT)/librerank.so $(OUT)/rerankd.1)

lib: $(LIB)
so: $(OUT)/librerank.so

# Rewritten when compiler or flags change, which rebuilds the objects; checks the libraries first.
.PHONY: force
$(OBJ)/flags: force
	@mkdir -p $(@D)
ifeq ($(ARCH),$(HOST_ARCH))
	@$(PKG_CONFIG) --exists $(PACKAGES) || \
	    { echo "libraries are missing: run tools/deps.sh (see its list)" >&2; exit 1; }
endif
	@echo '$(CC) $(subst ','\'',$(ALL_CFLAGS))' | cmp -s - $@ || \
	    echo '$(CC) $(subst ','\'',$(ALL_CFLAGS))' > $@

$(OBJ)/%.o: %.c $(OBJ)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) $(call file_flags,$<) -MMD -MP -c $< -o $@

# Archives are made anew: an object whose source is gone must not stay in.  The list of members is a
# prerequisite, so that a removed source rebuilds the archive.
define archive
@rm -f $@
$(call say,AR)$(AR) rcs $@ $(filter %.o,$^)
endef

$(LIB): $(call objects,$(LIB_SRC)) $(OBJ)/lib.list
	$(archive)
$(APP): $(call objects,$(APP_SRC)) $(OBJ)/app.list
	$(archive)
$(SUPPORT): $(call objects,$(SUPPORT_SRC)) $(OBJ)/support.list
	$(archive)
$(KERN_SUPPORT): $(call objects,$(KERN_SUPPORT_SRC)) $(OBJ)/kern_support.list
	$(archive)
$(OBJ)/kern_support.list: LIST = $(KERN_SUPPORT_SRC)
$(OBJ)/lib.list: LIST = $(LIB_SRC)
$(OBJ)/app.list: LIST = $(APP_SRC)
$(OBJ)/support.list: LIST = $(SUPPORT_SRC)
$(OBJ)/%.list: force
	@mkdir -p $(@D)
	@echo '$(LIST)' | cmp -s - $@ || echo '$(LIST)' > $@

$(SO): $(LIB) src/librerank.map
	$(call say,LD)$(CC) -shared -Wl,-soname,$(@F) -o $@ $(call objects,$(LIB_SRC)) $(ALL_LDFLAGS) \
	    -Wl,--version-script=src/librerank.map -Wl,--no-undefined $(LIBS)
$(OUT)/librerank.so: $(SO)
	ln -sf $(<F) $@

$(RERANKD): $(OBJ)/src/main.o $(APP) $(LIB)
	$(call say,LD)$(CC) -pie -o $@ $^ $(ALL_LDFLAGS) $(APP_LIBS) $(LIBS)

$(OUT)/rerankd.1: $(RERANKD)
	$< --man > $@
$(OUT)/rerank.h.3: include/rerank.h tools/make_man3.py
	$(PYTHON) tools/make_man3.py > $@

# ---- tests --------------------------------------------------------------------------------------

# Tests of the server, the options and the command line, and fuzz targets, get those objects too;
# the others cannot even link against them.
needs_app = $(filter test_server% test_options% test_cli% test_hub% replay_body% replay_hub% replay_gate% replay_http% \
    replay_options%,$(notdir $1))
test_link = $(CC) -o $@ $(filter %.o,$^) $(SUPPORT) $(if $(call needs_app,$@),$(APP)) $(LIB) \
    $(ALL_LDFLAGS) $(if $(call needs_app,$@),$(APP_LIBS))

$(foreach p,$(UNIT) $(REPLAY),$(if $(call needs_app,$p),$p)): $(APP)

# A helper tests/unit/NAME.c is linked into the tests that include "NAME.h".
HELPERS := $(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c))
define helper
$(patsubst %.c,$(OUT)/%,$(shell grep -ls '"$(basename $(notdir $1)).h"' tests/unit/test_*.c)): $(call objects,$1)
endef
$(foreach h,$(HELPERS),$(eval $(call helper,$h)))

$(OUT)/tests/unit/%: $(OBJ)/tests/unit/%.o $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(test_link) $(CMOCKA_LIBS) $(LIBS)
$(OUT)/tests/backend/%: $(OBJ)/tests/backend/%.o $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(test_link) $(CMOCKA_LIBS) $(LIBS)
$(OUT)/tests/fuzz/replay_%: $(OBJ)/tests/fuzz/fuzz_%.o $(OBJ)/tests/fuzz/replay_main.o $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(test_link) $(LIBS)
$(OUT)/tests/kern/%: $(OBJ)/tests/kern/%.o $(KERN_SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)
$(OUT)/bench/%: $(OBJ)/bench/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -o $@ $< $(LIB) $(ALL_LDFLAGS) $(LIBS)

# Each argument of run_tests.sh is one command; it prints "N passed, N failed" at the end.
matches = $(if $(T),$(findstring $(T),$1),yes)
TEST_WANTED := $(foreach p,$(TEST_PROGRAMS),$(if $(call matches,$p),$p))
SELECT = $(foreach t,$1,$(if $(call matches,$t),'$(strip $(RUNNER) $t)'))
SELECT_REPLAY = $(foreach f,$(FUZZERS),$(if $(call matches,replay_$f),\
    '$(OUT)/tests/fuzz/replay_$f tests/fuzz/corpus/$f'))
E2E := 'env RERANKD=$(RERANKD) $(PYTHON) tests/e2e/run.py'
CHECKS := '$(PYTHON) tools/check_layers.py --self-test' '$(PYTHON) tools/check_layers.py' \
    '$(MAKE) -s check-headers' '$(MAKE) -s check-exports' '$(MAKE) -s check-docs' \
    '$(MAKE) -s check-spills' '$(MAKE) -s test-arm' '$(MAKE) -s check-abi' '$(MAKE) -s check-bindings' \
    '$(PYTHON) tools/make_recording.py $(RERANKD) --check' '$(PYTHON) tools/api_docs.py $(OUT)/api-docs'

# A plugin is looked for beside the program that wants it; rerankd finds this one by
# LD_LIBRARY_PATH.
$(FAULT): $(OBJ)/tests/support/fake_backend.o
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared -o $@ $< $(ALL_LDFLAGS)
$(filter $(addprefix $(OUT)/tests/unit/test_,engine% devices team),$(UNIT)): | $(FAULT)
# Makes calls of a whole process fail; preloaded.
$(FAILING): $(OBJ)/tests/support/failing.o
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared -o $@ $< $(ALL_LDFLAGS) -ldl

test-programs: $(TEST_PROGRAMS) $(FAULT) $(FAILING)

# The battery's cases that need a server under load or faults; SCHEDULE=N or W for the longer ones.
test-load: $(RERANKD) $(FAULT) $(FAILING)
	$(Q)RERANKD=$(RERANKD) RESULTS=$(OUT)/load.json $(PYTHON) tests/load/run.py $(T)
.PHONY: test-load

# Everything.  T=text keeps the programs with this text in their names and leaves out the rest.
# A recursive make: the libraries may only just have been installed.
test:
	$(Q)tools/deps.sh test
	$(Q)$(MAKE) --no-print-directory test-all
test-all: $(if $(T),,all examples) $(TEST_WANTED)
	$(Q)tools/run_tests.sh $(call SELECT,$(UNIT) $(KERN) $(BACKEND)) $(SELECT_REPLAY) \
	    $(CUDA_COMMANDS) $(if $(T),,$(E2E) $(CHECKS))

# The quick tier: no server, no checks of the sources.
test-unit: $(TEST_WANTED)
	$(Q)tools/run_tests.sh $(call SELECT,$(UNIT) $(KERN) $(BACKEND)) $(SELECT_REPLAY)

# Memory errors, data races where there are threads, and last what takes longest: the black-box tests.
TSAN_NAMES := pool team engine batcher runner server_ log metrics mem cpu cache
TSAN_PROGRAMS = $(foreach p,$(UNIT) $(BACKEND),\
    $(if $(strip $(foreach n,$(TSAN_NAMES),$(findstring _$n,$(notdir $p)))),$p))
test-san:
	$(Q)mkdir -p build && rm -f build/san.results
	-$(MAKE) SAN=address,undefined $(call sub_out,asan) test-san-programs
	-$(MAKE) SAN=thread $(call sub_out,tsan) test-tsan-programs
	-$(MAKE) SAN=address,undefined $(call sub_out,asan) test-san-e2e
	@[ $$(wc -l < build/san.results) = 3 ] || { echo "a build failed" >&2; exit 1; }
	$(Q)tools/run_tests.sh --sum build/san.results
test-san-programs: $(TEST_PROGRAMS) $(RERANKD)
	$(Q)TEST_TIMEOUT=900 RESULTS=build/san.results tools/run_tests.sh $(call SELECT,$(UNIT) $(KERN) $(BACKEND)) \
	    $(SELECT_REPLAY)
test-san-e2e: $(RERANKD)
	$(Q)TEST_TIMEOUT=3600 RESULTS=build/san.results tools/run_tests.sh $(E2E)
test-tsan-programs: $(TSAN_PROGRAMS)
	$(Q)TEST_TIMEOUT=900 RESULTS=build/san.results tools/run_tests.sh $(call SELECT,$(TSAN_PROGRAMS))
.PHONY: test-san-programs test-san-e2e test-tsan-programs check-exports test-kern

# No sums on the stack inside the inner loops of the kernels, with either compiler.
check-spills:
	@for cc in gcc clang $(ARM_CC); do \
	    command -v $$cc >/dev/null || { echo "SKIP: $$cc is not installed"; continue; }; \
	    $(MAKE) -s CC=$$cc SAN= DEBUG= $(call sub_out,$$cc) spill-objects || exit 1; \
	done
TILED = $(call objects,$(shell grep -l 'body_table' src/cpu/$(CPU_DIR)/*.c))
spill-objects: $(TILED)
	@$(PYTHON) tools/check_spills.py --objdump $(if $(RUNNER),$(ARCH)-linux-gnu-)objdump $^
.PHONY: check-spills spill-objects

# The same loops on processors that are not at hand, as llvm-mca models them; 77 without it.
check-mca: $(TILED)
	$(Q)$(PYTHON) tools/check_mca.py $(OBJ)/src/cpu/x86
.PHONY: check-mca

# The Arm kernels under emulation, where the cross compiler and qemu are installed.
ARM_CC := aarch64-linux-gnu-gcc
test-arm:
	@if command -v $(ARM_CC) >/dev/null && command -v qemu-aarch64 >/dev/null; then \
	    $(MAKE) -s CC=$(ARM_CC) SAN= DEBUG= $(call sub_out,arm) test-kern; \
	else \
	    echo "SKIP: $(ARM_CC) or qemu-aarch64 is not installed"; exit 77; \
	fi
test-kern: $(KERN)
	$(Q)tools/run_tests.sh $(call SELECT,$(KERN))

# The machine code of levels that this processor lacks, in an emulated PC; settings are in the script.
LEVEL_TESTS := $(addprefix $(OUT)/tests/,kern/checkkern backend/test_cpu_bits unit/test_parity)
test-levels: $(RERANKD) $(LEVEL_TESTS)
	$(Q)T='$T' tests/levels/run.sh $(OUT)
.PHONY: test-levels

# Lines and branches that the unit tests and the stored fuzz inputs reach; fails below the floor.
COVERAGE_FLOOR := 75
coverage:
	$(MAKE) DEBUG=1 CFLAGS=--coverage LDFLAGS=--coverage OUT=$(OUT)/coverage test-unit
	$(Q)$(PYTHON) tools/coverage.py $(OUT)/coverage $(COVERAGE_FLOOR)

# Uninitialised and lost memory in what reads untrusted bytes, under valgrind.
VALGRIND_NAMES := json safetensors config model tok_parts shared_parts options text buf err file registry
VALGRIND_PROGRAMS = $(foreach n,$(VALGRIND_NAMES),$(filter %/test_$n,$(UNIT)))
test-valgrind: $(VALGRIND_PROGRAMS)
	$(Q)TEST_TIMEOUT=900 tools/run_tests.sh $(foreach t,$(VALGRIND_PROGRAMS),\
	    'valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite$(comma)indirect $t')

# Analysers; what is no defect is switched off here or in the source, with the reason.
CPPCHECK := cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
    --suppress=missingIncludeSystem --suppressions-list=tools/cppcheck.txt -Isrc -Iinclude -D_GNU_SOURCE
check-static:
	$(Q)$(CPPCHECK) src include
	$(Q)shellcheck tools/*.sh deploy/*/*.sh bench/run.sh .ci/run

# Two builds in different folders, without any cache: the same program, bit for bit.
check-repro:
	$(Q)for n in 1 2; do rm -rf $(OUT)/repro$$n; \
	    CCACHE_DISABLE=1 $(MAKE) -s OUT=$(OUT)/repro$$n $(OUT)/repro$$n/rerankd || exit 1; done
	$(Q)cmp $(OUT)/repro1/rerankd $(OUT)/repro2/rerankd && echo "the same bits"
.PHONY: coverage test-valgrind check-static check-repro

# The OpenAPI document against its standard, and requests made of it against a server.  By hand: it
# installs two programs from PyPI into build/venv, and is skipped when that cannot be reached.
test-api: $(RERANKD)
	$(Q)RERANKD=$(RERANKD) $(PYTHON) tests/e2e/api.py
# Other projects' clients from PyPI against a server, and the Python package; see docs/CLIENTS.md and
# docs/PYTHON.md.  By hand: they install into build/, and are skipped when PyPI cannot be reached.
CLIENTS ?=
test-clients: $(RERANKD)
	$(Q)RERANKD=$(RERANKD) $(PYTHON) tests/clients/run.py $(CLIENTS)
wheel: $(RERANKD) $(OUT)/librerank.so
	$(Q)$(PYTHON) tools/make_wheel.py $(OUT) $(VERSION)
test-python: wheel
	$(Q)CC='$(CC)' $(PYTHON) python/tests/run.py $(OUT)
.PHONY: test-clients wheel test-python

# The pages /ui and /ui/status in a headless Chromium, about four minutes; T=text selects.  Skipped when
# Chromium or its driver is not installed.
test-ui: $(RERANKD)
	$(Q)RERANKD=$(RERANKD) $(PYTHON) tests/ui/run.py $(T)
.PHONY: test-ui

# What deploy/ and the package promise, with the real programs (Prometheus, HAProxy, dpkg...); what is
# not installed is skipped.  About twelve minutes.
DEPLOY_TESTS := $(filter-out tests/deploy/support.py tests/deploy/%_cases.py,$(wildcard tests/deploy/*.py))
test-deploy: all
	$(Q)TEST_TIMEOUT=900 tools/run_tests.sh $(foreach t,$(DEPLOY_TESTS),$(call deploy_test,$t))
deploy_test = $(if $(call matches,$1),'env RERANKD=$(RERANKD) $(PYTHON) $1')
# The commands of the operators' pages alone, and what the pages promise.
test-docs: all
	$(Q)TEST_TIMEOUT=900 tools/run_tests.sh $(foreach n,commands documents,\
	    'env RERANKD=$(RERANKD) $(PYTHON) tests/deploy/$n.py')
.PHONY: test-deploy test-docs

# A Debian package of the server in build/deb; the same sources give the same bits.
deb:
	$(Q)MAKE='$(MAKE)' deploy/debian/build.sh
# The plugin for NVIDIA GPUs in a package of its own; 77 and the reason where there is no nvcc.
deb-cuda:
	$(Q)MAKE='$(MAKE)' deploy/debian/build_cuda.sh
# A program with most libraries inside, and a script that installs it.
tarball:
	$(Q)MAKE='$(MAKE)' tools/make_tarball.sh
.PHONY: deb deb-cuda tarball

# Numbers of "rerankd eval" beside pytrec_eval's, GGUF files beside the package gguf: the same way, in
# build/venv-eval.
test-eval: $(RERANKD)
	$(Q)RERANKD=$(RERANKD) tools/run_tests.sh '$(PYTHON) tests/e2e/eval_pytrec.py' \
	    '$(PYTHON) tests/e2e/gguf_package.py'
examples: $(EXAMPLES)
$(OUT)/examples/%: $(OBJ)/examples/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -o $@ $< $(LIB) $(ALL_LDFLAGS) $(LIBS)

bench: $(BENCH) $(RERANKD) $(OUT)/tests/kern/checkkern
	$(Q)OUT=$(OUT) bench/run.sh

# int8, fewer candidates and the cache on this processor: the figures of docs/CPU.md.
bench-cpu-route: $(OUT)/bench/bench_encoder $(RERANKD)
	$(Q)$(PYTHON) bench/cpu_route.py $(OUT)
.PHONY: bench-cpu-route

# Other engines on the same weights, in an environment of their own (12 GB, hours at full size; it
# goes on where it was stopped).  PEERS="--layers 4 --shapes 20x64" is a start; see bench/peers/run.py.
# llama.cpp is compiled for this machine; where that fails its rows are left out.
PEERS ?=
PEERS_DIR ?= build/peers
PEERS_PYTHON := $(PEERS_DIR)/venv/bin/python
bench-peers: $(RERANKD) $(PEERS_DIR)/venv/ready
	$(Q)$(PEERS_PYTHON) bench/peers/run.py --dir $(PEERS_DIR) --rerankd $(RERANKD) $(PEERS)
$(PEERS_DIR)/venv/ready: bench/peers/requirements.txt bench/peers/requirements-llamacpp.txt
	$(Q)$(PYTHON) -m venv $(PEERS_DIR)/venv
	$(Q)$(PEERS_PYTHON) -m pip install --quiet --requirement $<
	$(Q)CMAKE_ARGS=-DLLAVA_BUILD=OFF $(PEERS_PYTHON) -m pip install --quiet --requirement \
	    bench/peers/requirements-llamacpp.txt || echo "bench-peers: no llama.cpp, its rows are left out"
	$(Q)touch $@
.PHONY: bench-peers
# Files of "rerankd convert" ranked by llama.cpp, in the same environment.
test-llamacpp: $(RERANKD) $(PEERS_DIR)/venv/ready
	$(Q)RERANKD=$(RERANKD) tools/run_tests.sh '$(PEERS_PYTHON) tests/e2e/gguf_llamacpp.py'
.PHONY: test-llamacpp

include plugins/cuda/cuda.mk

# ---- fuzzing ------------------------------------------------------------------------------------

# Inputs that the fuzzer finds stay under build/; what is worth keeping is moved to tests/fuzz/corpus
# by hand, where "make test" replays it.
fuzz:
	$(MAKE) CC=clang SAN=fuzzer-no-link,address,undefined $(call sub_out,fuzz) fuzz-run
fuzz-run: $(foreach f,$(FUZZERS),$(if $(call matches,$f),$(OUT)/tests/fuzz/fuzz_$f))
	@for f in $^; do \
	    name=$${f##*/fuzz_}; mkdir -p $(OUT)/found/$$name; echo "== $$name"; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=4096 \
	        -artifact_prefix=$(OUT)/found/$$name- -print_final_stats=1 \
	        $(OUT)/found/$$name $$(ls -d tests/fuzz/corpus/$$name 2>/dev/null) || exit 1; \
	done
$(OUT)/tests/fuzz/fuzz_%: $(OBJ)/tests/fuzz/fuzz_%.o $(SUPPORT) $(LIB) $(APP)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -fsanitize=fuzzer,address,undefined -o $@ $< $(SUPPORT) $(APP) $(LIB) $(LDFLAGS) \
	    $(APP_LIBS) $(LIBS)

# ---- checks of the sources ----------------------------------------------------------------------

check: check-layers check-headers check-exports check-docs check-abi

check-layers:
	$(PYTHON) tools/check_layers.py --self-test
	$(PYTHON) tools/check_layers.py
	@found=$$(find bench deploy examples python tests tools \( -name '*.py' -o -name '*.sh' \) \
	    ! -perm -u+x -exec grep -l '^#!' {} +); \
	    test -z "$$found" || { echo "a program that cannot be run, chmod +x: $$found" >&2; exit 1; }

# Every header compiles alone; the public ones also as C++.  Alone, nobody uses its inline functions.
HEADERS := $(wildcard include/*.h)
CXX_HEADERS := $(wildcard include/*.hpp)
INNER_HEADERS := $(filter-out src/cpu/body_%,$(wildcard src/*.h src/*/*.h))
check-headers:
	@for h in $(HEADERS); do \
	    $(CC) -std=c11 -Wall -Wextra -Werror -Wno-unused-function -Iinclude -fsyntax-only -x c $$h && \
	    $(CXX) -std=c++17 -Wall -Wextra -Werror -Wno-unused-function -Iinclude -fsyntax-only -x c++ $$h || exit 1; \
	done
	@for h in $(CXX_HEADERS); do \
	    $(CXX) -std=c++17 -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ $$h || exit 1; \
	done
	@for h in $(INNER_HEADERS); do \
	    $(CC) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -Iinclude -Isrc \
	        $(PKG_CFLAGS) -fsyntax-only -x c $$h || exit 1; \
	done

# The shared library exports what rerank.h marks as public, nothing else, and C++ can use it.
check-exports: $(OUT)/librerank.so
	@nm -D --defined-only $< | awk '$$2 != "A" { sub(/@.*/, "", $$3); print $$3 }' | sort > $(OBJ)/exported
	@grep -o 'RR_PUBLIC[A-Z_]* .*' include/rerank.h | grep -v define | \
	    grep -o 'rr_[a-z_]*(' | tr -d '(' | sort > $(OBJ)/declared
	@diff -u $(OBJ)/declared $(OBJ)/exported
	@mkdir -p $(OUT)/tests/header
	@$(CXX) -std=c++17 -Wall -Wextra -Werror -Iinclude -o $(OUT)/tests/header/use_cxx \
	    tests/header/use_cxx.cc $< -Wl,-rpath,'$$ORIGIN/../..'
	@$(OUT)/tests/header/use_cxx

# What compiled callers rely on, against what is stored; ABI_BASE=an older librerank.so also asks abidiff.
check-abi: $(OUT)/librerank.so
	@CC='$(CC)' $(PYTHON) tools/abi.py --check $<
abi: $(OUT)/librerank.so
	$(PYTHON) tools/abi.py --store $<
# The library from C++, Go and Rust, with the compilers that are there.
check-bindings: $(RERANKD) $(OUT)/librerank.so
	@CXX='$(CXX)' $(PYTHON) tests/abi/bindings.py $(OUT)
.PHONY: check-abi abi check-bindings

docs: $(RERANKD)
	@mkdir -p docs
	$< --markdown > docs/CONFIG.md
	$< --markdown=metrics > docs/METRICS.md
	$< --markdown=models > docs/MODELS.md
	$(PYTHON) tools/make_readme.py $<
	$(PYTHON) tools/make_pages.py
# The reference of the C and C++ API in build/api-docs/html, by Doxygen.
api-docs:
	$(PYTHON) tools/api_docs.py $(OUT)/api-docs
.PHONY: api-docs
recording: $(RERANKD)
	$(PYTHON) tools/make_recording.py $<
.PHONY: recording
check-docs: $(RERANKD)
	@$< --markdown | diff -u docs/CONFIG.md - && \
	    $< --markdown=metrics | diff -u docs/METRICS.md - && \
	    $< --markdown=models | diff -u docs/MODELS.md - || \
	    { echo "docs/CONFIG.md, METRICS.md or MODELS.md is stale: run make docs" >&2; exit 1; }
	@$(PYTHON) tools/make_readme.py $< --check
	@$(PYTHON) tools/make_pages.py --check
	@$(PYTHON) tools/check_readme.py --self-test

FORMAT_FILES := $(wildcard include/*.h src/*.[ch] src/*/*.[ch] src/cpu/*/*.[ch] tests/*/*.[ch] \
    bench/*.[ch] examples/*.c)
format:
	clang-format -i $(FORMAT_FILES)

# ---- using --------------------------------------------------------------------------------------

deps:
	tools/deps.sh build

# Recursive as "test" is.
run:
	tools/deps.sh run
	$(MAKE) --no-print-directory -j$$(nproc) all
	exec $(RERANKD) serve --model models/starter --port 8002

# Where the shells of a distribution look; the first word is the shell.
COMPLETIONS := bash-completion/completions/rerankd zsh/site-functions/_rerankd \
    fish/vendor_completions.d/rerankd.fish

install: all $(OBJ)/rerank.pc $(OUT)/rerank.h.3
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) \
	    $(DESTDIR)$(DATADIR)/man/man1 $(DESTDIR)$(DATADIR)/man/man3 \
	    $(DESTDIR)$(DATADIR)/rerankd/models/starter
	install -m 755 $(RERANKD) $(DESTDIR)$(BINDIR)/rerankd
	install -m 644 $(LIB) $(DESTDIR)$(LIBDIR)/librerank.a
	install -m 755 $(SO) $(DESTDIR)$(LIBDIR)/$(notdir $(SO))
	ln -sf $(notdir $(SO)) $(DESTDIR)$(LIBDIR)/librerank.so
	install -m 644 $(HEADERS) $(CXX_HEADERS) $(DESTDIR)$(INCLUDEDIR)
	install -m 644 $(OBJ)/rerank.pc $(DESTDIR)$(LIBDIR)/pkgconfig/rerank.pc
	install -m 644 $(OUT)/rerankd.1 $(DESTDIR)$(DATADIR)/man/man1/rerankd.1
	install -m 644 $(OUT)/rerank.h.3 $(DESTDIR)$(DATADIR)/man/man3/rerank.h.3
	$(foreach c,$(COMPLETIONS),install -d $(DESTDIR)$(DATADIR)/$(dir $c) && \
	    $(RERANKD) --completion $(firstword $(subst -, ,$(subst /, ,$c))) > $(DESTDIR)$(DATADIR)/$c &&) true
	install -m 644 $(wildcard models/starter/*) $(DESTDIR)$(DATADIR)/rerankd/models/starter

$(OBJ)/rerank.pc: tools/rerank.pc.in force
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@LIBS_PRIVATE@|$(LIBS)|' $< > $@

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/rerankd $(DESTDIR)$(LIBDIR)/librerank.a \
	    $(DESTDIR)$(LIBDIR)/librerank.so $(DESTDIR)$(LIBDIR)/$(notdir $(SO)) \
	    $(HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%) $(CXX_HEADERS:include/%=$(DESTDIR)$(INCLUDEDIR)/%) \
	    $(DESTDIR)$(LIBDIR)/pkgconfig/rerank.pc $(DESTDIR)$(DATADIR)/man/man1/rerankd.1 \
	    $(DESTDIR)$(DATADIR)/man/man3/rerank.h.3 $(COMPLETIONS:%=$(DESTDIR)$(DATADIR)/%)
	rm -rf $(DESTDIR)$(DATADIR)/rerankd

clean:
	rm -rf build

help:
	@echo "make            build rerankd, librerank.a and librerank.so in build/"
	@echo "make run        install what is missing, build, serve the starter model on port 8002"
	@echo "make test       all tests (T=name: some); ends with 'N passed, N failed'"
	@echo "make test-unit  unit, kernel and backend tests, fuzz corpora"
	@echo "make test-san   the same under ASan+UBSan, threaded ones under TSan"
	@echo "make test-levels  AVX-512 and the like in an emulated PC (Bochs), BOCHS_CPU=model"
	@echo "make test-api   docs/openapi.json against a running server (tools from PyPI)"
	@echo "make test-eval  rerankd eval beside pytrec_eval, GGUF files beside gguf (from PyPI)"
	@echo "make test-llamacpp  GGUF files of rerankd convert ranked by llama.cpp (from PyPI)"
	@echo "make test-load  faults and load against a running server (T=r79: some)"
	@echo "make test-clients  other projects' clients from PyPI against a server (CLIENTS=sdk ...)"
	@echo "make wheel      the Python package; make test-python tests it"
	@echo "make test-deploy  alerts, dashboard, package, unit, images, balancers with the real programs"
	@echo "make test-docs  the commands of the operators' pages"
	@echo "make test-ui    the pages of the server in a headless Chromium (T=key: some)"
	@echo "make coverage   lines that tests reach; also test-valgrind, check-static, check-repro"
	@echo "make bench      speed of kernels and models, kept in build/bench.log"
	@echo "make check-mca  inner loops of the kernels by llvm-mca: cycles and share of the peak"
	@echo "make bench-peers  beside other engines, PEERS=\"--layers 4\""
	@echo "make examples   the programs of examples/"
	@echo "make fuzz       each fuzzer for FUZZ_SECONDS=60"
	@echo "make check      layers, headers, exported symbols, binary interface, generated docs"
	@echo "make abi        store the binary interface of librerank.so after a deliberate change"
	@echo "make cuda       the plugin for NVIDIA GPUs (docs/GPU.md); CUDA=12 also for Volta"
	@echo "make check-cuda compiled kernels: registers, spills, tensor-core instructions"
	@echo "make test-gpu, bench-gpu   on a machine with a GPU"
	@echo "make docs       regenerate docs/CONFIG.md and src/server/pages.c; recording: the picture of README"
	@echo "make api-docs   the reference of the C API in build/api-docs, by Doxygen"
	@echo "make format     clang-format"
	@echo "make install    PREFIX=$(PREFIX) DESTDIR="
	@echo "make deb        a Debian package in build/deb; make deb-cuda the plugin's (needs nvcc)"
	@echo "make tarball    a program with most libraries inside, and install.sh"
	@echo "make uninstall, clean, deps"
	@echo "with: CC=gcc|clang DEBUG=1 SAN=address,undefined|thread OUT=folder"

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
