#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install_cuda.sh - a CUDA compiler from PyPI, into build/cuda<version>; nothing of the system changes.
#
#   tools/install_cuda.sh [12|13]     default 12: the last that compiles for compute capability 7.0
#
# PyPI's CUDA 12 has an assembler and a runtime, and no nvcc: there clang (16 or newer, Debian's
# clang-19 for example) compiles, and CUDA 13's fatbinary packs.  CUDA 13 is complete.
# Also cuobjdump and nvdisasm, for make check-cuda.  Exit status 77 when something cannot be had.
set -euo pipefail

version=${1:-12}
case $version in
    12) packages="nvidia-cuda-nvcc-cu12 nvidia-cuda-runtime-cu12 nvidia-cuda-cccl-cu12 \
                  nvidia-cuda-nvcc==13.0.*" ;;
    13) packages="nvidia-cuda-nvcc==13.0.* nvidia-cuda-crt==13.0.* nvidia-nvvm==13.0.* \
                  nvidia-cuda-runtime==13.0.* nvidia-cuda-cccl==13.0.*" ;;
    *) echo "usage: tools/install_cuda.sh [12|13]" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
target=build/cuda$version
clang=${CUDA_CLANG:-}
for v in 19 18 17 16 20 21; do
    [ -n "$clang" ] || clang=$(command -v clang++-$v || true)
done
if [ "$version" = 12 ] && [ -z "$clang" ]; then
    echo "SKIP: CUDA 12 without NVIDIA's nvcc needs clang 16 or newer: apt-get install clang-19" >&2
    exit 77
fi
python3 -m venv "$target/venv"
# shellcheck disable=SC2086  # a list
if ! "$target/venv/bin/pip" install -q --no-deps $packages nvidia-cuda-cuobjdump \
        nvidia-cuda-nvdisasm; then
    echo "SKIP: PyPI cannot be reached, or has no CUDA $version for this machine" >&2
    exit 77
fi

# The wheels' folders become one tree, as the compiler expects it.  For 12 nothing of 13 gets in but
# programs that are told what they pack.
site=$(echo "$PWD/$target"/venv/lib/python3*/site-packages/nvidia)
for part in "$site"/*/; do
    for folder in bin include lib nvvm lib64; do
        [ -d "$part$folder" ] || continue
        [ "$version" = 12 ] && [ "$(basename "$part")" = cu13 ] && continue
        mkdir -p "$target/$folder"
        cp -rsf "$part$folder/." "$target/$folder/"
    done
done
[ -e "$target/lib64" ] || ln -s lib "$target/lib64"
chmod +x "$target"/bin/* "$site"/cu13/bin/* 2>/dev/null || true
if [ "$version" = 13 ]; then
    "$target/bin/nvcc" --version | tail -n 2
    exit 0
fi
for tool in cuobjdump nvdisasm; do ln -sf "$site/cu13/bin/$tool" "$target/bin/$tool"; done
printf '#!/bin/sh\nexec "%s" "$@"\n' "$clang" > "$target/bin/clang++"
cat > "$target/bin/fatbinary" <<'END'
#!/bin/bash
# What clang asks of fatbinary, in the words of CUDA 13's.
arguments=()
for a in "$@"; do
    if [[ $a =~ ^--?image3?=profile=(sm|compute)_([0-9a-z]+),file=(.*)$ ]]; then
        kind=elf
        [ "${BASH_REMATCH[1]}" = sm ] || kind=ptx
        a="--image3=kind=$kind,sm=${BASH_REMATCH[2]},file=${BASH_REMATCH[3]}"
    fi
    arguments+=("$a")
done
exec "$(dirname "$(readlink -f "$0")")"/../venv/lib/python3*/site-packages/nvidia/cu13/bin/fatbinary \
    "${arguments[@]}"
END
chmod +x "$target"/bin/*
"$target/bin/ptxas" --version | tail -n 2
"$target/bin/clang++" --version | head -n 1
