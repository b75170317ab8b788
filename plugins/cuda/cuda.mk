# SPDX-License-Identifier: Apache-2.0
# cuda.mk - the CUDA plugin and its tests; included by the Makefile.  Nothing here is part of
# "make run"; "make test" runs the plugin over the emulation of tests/cuda/emul.
#
#   make cuda            build/librerank_cuda.so: compute capability 7.5 and newer, CUDA 13
#   make cuda CUDA=12    also 7.0, for drivers of CUDA 12.  Without NVCC=/usr/local/cuda-12/bin/nvcc
#                        clang compiles, with what tools/install_cuda.sh 12 gets: then 9.0 has no
#                        wgmma, and nothing newer is built
#   make cuda CUDA_ARCHS=80   for one architecture, to try something

CUDA ?= 13
NVCC ?= $(if $(filter 12,$(CUDA)),$(wildcard build/cuda12/bin/nvcc),$(shell command -v nvcc))
CUDA_CLANG = $(if $(NVCC),,$(if $(filter 12,$(CUDA)),$(wildcard build/cuda12/bin/clang++)))
CUDA_ARCHS ?= $(strip $(if $(filter 12,$(CUDA)),70) 75 80 86 89 \
    $(if $(CUDA_CLANG),90,90a 100 120))
CUDA_HOME = $(if $(CUDA_CLANG),build/cuda12,$(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $(NVCC))))))
CUDA_OBJ := $(OBJ)/cuda$(CUDA)
# PTX of the newest for what comes later; code for 9.0 in full (90a) runs nowhere else.
CUDA_GENCODE = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
    -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
CUDA_FLAGS = -std=c++17 -O3 $(if $(filter 90a,$(CUDA_ARCHS)),-DRR_HAS_SM90) -Iinclude -Iplugins/cuda
cuda_compile = $(if $(CUDA_CLANG),$(CUDA_CLANG) -x cuda --cuda-path=build/cuda12 \
    -isystem build/cuda12/include -Wno-unknown-cuda-version -Wno-unknown-attributes \
    $(foreach a,$(CUDA_ARCHS),--cuda-gpu-arch=sm_$a) -fPIC -fvisibility=hidden,\
    $(NVCC) $(CUDA_GENCODE) -Xcompiler -fPIC$(comma)-fvisibility=hidden$(comma)-Wall -Xptxas -v)
comma := ,

CUDA_KERNELS := $(wildcard plugins/cuda/*.cu)
CUDA_HOST := $(wildcard plugins/cuda/*.cc)
CUDA_HEADERS := $(wildcard plugins/cuda/*.h) include/rerank_backend.h include/rerank_types.h
# The check of programs and what it needs: compiled into the plugin, which shares no symbols with
# the program that loads it.
CUDA_C := src/backend/cpu_check.c src/base/mem.c
CUDA_INCLUDE := -Iinclude -Isrc -Iplugins/cuda
CUDA_CXXFLAGS := -std=c++17 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Werror \
    -Wno-missing-field-initializers -Wno-unknown-pragmas -Wno-psabi

define cuda_c_object
$2/$(notdir $(1:.c=.o)): $1 $(wildcard src/base/*.h src/backend/*.h) $(CUDA_HEADERS)
	@mkdir -p $$(@D)
	$$(call say,CC)$$(CC) -std=c11 -D_GNU_SOURCE -O2 -g -fPIC -fvisibility=hidden -Iinclude -Isrc \
	    $$(PKG_CFLAGS) -c $$< -o $$@
endef

# ---- for GPUs -----------------------------------------------------------------------------------

.PHONY: cuda check-cuda test-gpu bench-gpu
cuda:
	@if [ -n "$(NVCC)$(CUDA_CLANG)" ]; then $(MAKE) cuda-plugin; \
	elif [ "$(CUDA)" = 12 ]; then tools/install_cuda.sh 12 && $(MAKE) cuda-plugin || [ $$? = 77 ]; \
	else echo "SKIP: nvcc is not installed: CUDA 13 from NVIDIA, or tools/install_cuda.sh 13"; fi
.PHONY: cuda-plugin
# Copied each time: the plugins of both CUDA versions want this place.
cuda-plugin: $(CUDA_OBJ)/librerank_cuda.so
	@cp -f $< $(OUT)/librerank_cuda.so
	@echo "$(OUT)/librerank_cuda.so for compute capability $(CUDA_ARCHS), CUDA $(CUDA)"

$(CUDA_OBJ)/%.cu.o: plugins/cuda/%.cu $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(call say,NVCC)$(cuda_compile) $(CUDA_FLAGS) -c $< -o $@ 2> $@.log || \
	    { cat $@.log >&2; exit 1; }
$(CUDA_OBJ)/%.cc.o: plugins/cuda/%.cc $(CUDA_HEADERS)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(CUDA_CXXFLAGS) -DRR_CUDA_MIN_ARCH=$(patsubst %a,%,$(firstword $(CUDA_ARCHS))) \
	    $(CUDA_INCLUDE) -isystem $(CUDA_HOME)/include -c $< -o $@
$(foreach f,$(CUDA_C),$(eval $(call cuda_c_object,$f,$(CUDA_OBJ))))
CUDA_OBJECTS := $(CUDA_KERNELS:plugins/cuda/%=$(CUDA_OBJ)/%.o) \
    $(CUDA_HOST:plugins/cuda/%=$(CUDA_OBJ)/%.o) \
    $(foreach f,$(CUDA_C),$(CUDA_OBJ)/$(notdir $(f:.c=.o)))
$(CUDA_OBJ)/librerank_cuda.so: $(CUDA_OBJECTS)
	$(call say,LD)$(if $(CUDA_CLANG),\
	    $(CXX) -shared -o $@ $^ build/cuda12/lib/libcudart_static.a -ldl -lrt -lpthread \
	        -Wl$(comma)--exclude-libs$(comma)ALL,\
	    $(NVCC) -shared -cudart static -o $@ $^ -Xlinker --exclude-libs$(comma)ALL)

# Every kernel of every architecture: registers, spills, tensor-core instructions.  Needs cuobjdump,
# of CUDA or of tools/install_cuda.sh.
check-cuda:
	@CXX=$(CXX) $(PYTHON) tools/check_cuda.py --self-test
	@if [ -n "$(NVCC)$(CUDA_CLANG)" ]; then $(MAKE) cuda-plugin; fi
	@CUDA_ARCHS="$(patsubst %a,%,$(CUDA_ARCHS))" $(PYTHON) tools/check_cuda.py \
	    $(OUT)/librerank_cuda.so

# On a machine with a GPU: every operation and model at every precision, small models and one of full
# size (made in build/, 600 MB), then speed.  A precision that the card does not have is skipped, with
# its reason; GPU_DTYPES="f16 int8" asks for some only.
GPU_DTYPES ?= f32 f16 bf16 int8 fp8
test-gpu: cuda-plugin $(OUT)/tests/backend/test_ops $(OUT)/tests/backend/test_refused \
    $(OUT)/tests/cuda/test_cuda $(OUT)/tests/cuda/test_linear $(OUT)/tests/unit/test_parity $(RERANKD)
	$(Q)LD_LIBRARY_PATH=$(OUT) TEST_TIMEOUT=1800 tools/run_tests.sh '$(OUT)/tests/backend/test_ops cuda' \
	    '$(OUT)/tests/backend/test_refused cuda' '$(OUT)/tests/cuda/test_cuda cuda' \
	    '$(OUT)/tests/cuda/test_linear cuda' \
	    $(foreach d,$(GPU_DTYPES),'$(OUT)/tests/unit/test_parity cuda $d') \
	    '$(PYTHON) tests/cuda/full_size.py $(RERANKD) $(GPU_DTYPES)'
bench-gpu: cuda-plugin $(OUT)/bench/bench_encoder
	$(Q)LD_LIBRARY_PATH=$(OUT) $(PYTHON) bench/gpu.py $(OUT)/bench/bench_encoder $(GPU_DTYPES)
# The same without a GPU, one layer and one short pair: does everything print?
.PHONY: dry-bench-gpu
dry-bench-gpu: $(OUT)/tests/cuda/librerank_cudaemul89.so $(OUT)/bench/bench_encoder
	$(Q)$(EMUL_ENV) $(PYTHON) bench/gpu.py $(OUT)/bench/bench_encoder --backend cudaemul89 --layers 1 \
	    --reps 1 --shapes 1x3,2+1 f16 fp8

# ---- under emulation ----------------------------------------------------------------------------

# The same sources with the host compiler, as if for each of these compute capabilities: a plugin each,
# beside the tests that load them.  Never instrumented: fibers confuse the sanitizers.
EMUL_ARCHS := 70 75 89 90
EMUL_PLUGINS := $(foreach a,$(EMUL_ARCHS),$(OUT)/tests/cuda/librerank_cudaemul$a.so)
EMUL_SOURCES := $(wildcard tests/cuda/emul/*.cc)
EMUL_HEADERS := $(wildcard tests/cuda/emul/*.h) $(CUDA_HEADERS)
define emul_plugin
$(OBJ)/emul$1/%.o: plugins/cuda/% $(EMUL_HEADERS)
	@mkdir -p $$(@D)
	$$(call say,EMUL)$$(CXX) $(CUDA_CXXFLAGS) -DRR_EMUL -DRR_EMUL_ARCH=$1 -DRR_CUDA_MIN_ARCH=70 \
	    -Itests/cuda/emul $(CUDA_INCLUDE) -x c++ -c $$< -o $$@
$(OBJ)/emul$1/%.o: tests/cuda/emul/% $(EMUL_HEADERS)
	@mkdir -p $$(@D)
	$$(call say,EMUL)$$(CXX) $(CUDA_CXXFLAGS) -DRR_EMUL -DRR_EMUL_ARCH=$1 \
	    -Itests/cuda/emul $(CUDA_INCLUDE) -c $$< -o $$@
$(foreach f,$(CUDA_C),$(call cuda_c_object,$f,$(OBJ)/emul$1)
)
$(OUT)/tests/cuda/librerank_cudaemul$1.so: $(foreach f,$(CUDA_KERNELS) $(CUDA_HOST) $(EMUL_SOURCES),\
    $(OBJ)/emul$1/$(notdir $f).o) $(foreach f,$(CUDA_C),$(OBJ)/emul$1/$(notdir $(f:.c=.o)))
	@mkdir -p $$(@D)
	$$(call say,LD)$$(CXX) -shared -Wl,--no-undefined -o $$@ $$^ -ldl -lpthread
endef
$(foreach a,$(EMUL_ARCHS),$(eval $(call emul_plugin,$a)))

# The driver's library of figures, as far as nvml.cc asks: found by LD_LIBRARY_PATH.
$(OUT)/tests/cuda/libnvidia-ml.so.1: $(OBJ)/tests/cuda/emul/nvml.o
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared -o $@ $<

CUDA_TESTS := $(call programs,$(wildcard tests/cuda/*.c))
$(OUT)/tests/cuda/%: $(OBJ)/tests/cuda/%.o $(SUPPORT) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(test_link) $(CMOCKA_LIBS) $(LIBS)
$(OBJ)/tests/cuda/%.o: file_flags = -Itests -Iplugins/cuda

# What "make test" runs; T=cuda selects it.
EMUL_ENV := env LD_LIBRARY_PATH=$(OUT)/tests/cuda
CUDA_COMMANDS := '$(EMUL_ENV) $(OUT)/tests/backend/test_ops cudaemul89' \
    '$(EMUL_ENV) $(OUT)/tests/backend/test_refused cudaemul89' \
    $(foreach a,$(EMUL_ARCHS),'$(EMUL_ENV) $(OUT)/tests/cuda/test_cuda cudaemul$a' \
        '$(EMUL_ENV) $(OUT)/tests/cuda/test_linear cudaemul$a') \
    '$(EMUL_ENV) EMUL_PROCESSORS=132 $(OUT)/tests/cuda/test_cuda cudaemul90' \
    '$(EMUL_ENV) $(OUT)/tests/cuda/test_faults cudaemul89' \
    '$(EMUL_ENV) $(OUT)/tests/unit/test_parity cudaemul89 f16 1' \
    '$(PYTHON) tests/cuda/end_to_end.py $(RERANKD) $(OUT)/tests/cuda/librerank_cudaemul89.so \
        $(OUT)/bench/bench_encoder'
CUDA_COMMANDS := $(if $(T),$(if $(findstring $(T),test_cuda),$(CUDA_COMMANDS)),$(CUDA_COMMANDS))
CUDA_WANTED := $(if $(CUDA_COMMANDS),$(EMUL_PLUGINS) $(OUT)/tests/cuda/libnvidia-ml.so.1 $(CUDA_TESTS) $(BACKEND) $(OUT)/tests/unit/test_parity $(RERANKD) $(OUT)/bench/bench_encoder)
test-all: $(CUDA_WANTED)
