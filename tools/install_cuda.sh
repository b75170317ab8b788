#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install_cuda.sh - a CUDA compiler from PyPI, into build/cuda<version>; nothing of the system changes.
#
#   tools/install_cuda.sh [12|13]     default 12: the last that compiles for compute capability 7.0
#
# Also cuobjdump and nvdisasm, for make check-cuda.  Exit status 77 when PyPI cannot be reached.
set -euo pipefail

version=${1:-12}
case $version in
    12) packages="nvidia-cuda-nvcc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12" ;;
    13) packages="nvidia-cuda-nvcc==13.0.* nvidia-cuda-crt==13.0.* nvidia-nvvm==13.0.* \
                  nvidia-cuda-runtime==13.0.* nvidia-cuda-cccl==13.0.*" ;;
    *) echo "usage: tools/install_cuda.sh [12|13]" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
target=build/cuda$version
python3 -m venv "$target/venv"
# shellcheck disable=SC2086  # a list
if ! "$target/venv/bin/pip" install -q $packages nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm; then
    echo "SKIP: PyPI cannot be reached, or has no CUDA $version for this machine" >&2
    exit 77
fi

# The wheels' folders become one tree, as nvcc expects it beside itself.
site=$(echo "$PWD/$target"/venv/lib/python3*/site-packages/nvidia)
for part in "$site"/*/; do
    for folder in bin include lib nvvm lib64; do
        [ -d "$part$folder" ] || continue
        mkdir -p "$target/$folder"
        cp -rsf "$part$folder/." "$target/$folder/"
    done
done
[ -e "$target/lib64" ] || ln -s lib "$target/lib64"
chmod +x "$target"/bin/* 2>/dev/null || true
if ! [ -x "$target/bin/nvcc" ]; then
    echo "SKIP: PyPI's packages of CUDA $version have no nvcc: install it from NVIDIA, then" \
        "make cuda CUDA=$version NVCC=/usr/local/cuda-$version/bin/nvcc" >&2
    exit 77
fi
"$target/bin/nvcc" --version | tail -n 2
