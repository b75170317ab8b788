#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh - looks for what a build needs and installs what is missing (Debian, Ubuntu).
#
#   tools/deps.sh build   compiler and libraries (default)
#   tools/deps.sh run     also curl, for the line that "make run" prints
#   tools/deps.sh test    also what "make test", test-san and fuzz use
#   tools/deps.sh ui      also what "make test-ui" uses
#   tools/deps.sh levels  also what "make test-levels" uses
#
# As root, or with sudo, missing packages are installed; otherwise they are named.  Exit status 1: what
# is missing is needed.
set -u

mode=${1:-build}
missing=() # without these nothing works
lacking=() # without these something is left out
as_root= can_install=
if command -v apt-get > /dev/null; then
    [ "$(id -u)" -eq 0 ] && can_install=yes
    [ -z "$can_install" ] && command -v sudo > /dev/null && can_install=yes as_root=sudo
fi

need_program() { # program package...
    command -v "$1" > /dev/null || missing+=("${@:2}")
}
like_program() {
    command -v "$1" > /dev/null || lacking+=("${@:2}")
}
need_library() { # pkg-config-name package
    pkg-config --exists "$1" 2> /dev/null || missing+=("$2")
}
need_file() { # glob package...
    compgen -G "$1" > /dev/null || missing+=("${@:2}")
}
like_file() {
    compgen -G "$1" > /dev/null || lacking+=("${@:2}")
}

need_program gcc gcc libc6-dev
need_file '/usr/include/stdio.h' libc6-dev
need_program make make
need_program pkg-config pkg-config
need_library jansson libjansson-dev
need_library libmicrohttpd libmicrohttpd-dev
need_library libcurl libcurl4-openssl-dev
need_library gnutls libgnutls28-dev
need_library libseccomp libseccomp-dev
need_library libutf8proc libutf8proc-dev
need_library libxxhash libxxhash-dev
need_library libpcre2-8 libpcre2-dev
need_library hiredis libhiredis-dev
[ "$mode" = run ] && like_program curl curl
if [ "$mode" = test ]; then
    need_program g++ g++
    need_program python3 python3
    need_library cmocka libcmocka-dev
    like_program clang clang
    like_program redis-server redis-server
    like_program qemu-aarch64 qemu-user
    like_program aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    like_file '/usr/lib/llvm-*/lib/clang/*/lib/*/libclang_rt.fuzzer*' clang-runtime
fi
if [ "$mode" = ui ]; then
    need_program python3 python3 python3-venv
    need_program curl curl
    need_program chromium chromium
    need_program chromedriver chromium-driver
fi
if [ "$mode" = levels ]; then
    need_library cmocka libcmocka-dev
    need_program bochs bochs bochs-term
    need_program xorriso xorriso
    need_program cpio cpio
    need_file '/usr/share/bochs/VGABIOS-lgpl-latest' bochsbios vgabios
    need_file '/usr/lib/ISOLINUX/isolinux.bin' isolinux
    need_file '/usr/lib/syslinux/modules/bios/ldlinux.c32' syslinux-common
fi

[ ${#missing[@]} -gt 0 ] && failed=1 || failed=0 # what a package that cannot be installed means
if [ -z "$can_install" ]; then
    [ ${#lacking[@]} -gt 0 ] && echo "Not installed, so what uses them is left out: ${lacking[*]}"
    [ $failed -eq 0 ] && exit 0
    echo "Missing, by their Debian names: ${missing[*]}" >&2
    echo "Install them and try again, for example: apt-get install ${missing[*]}" >&2
    exit 1
fi
missing+=("${lacking[@]}")
[ ${#missing[@]} -eq 0 ] && exit 0

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q || exit $failed
# clang's sanitizers and fuzzer are a package of their own, named after its version.
version=$(apt-cache depends clang 2> /dev/null | sed -n 's/.*Depends: clang-\([0-9]*\).*/\1/p')
missing=("${missing[@]/#clang-runtime/libclang-rt-$version-dev}")
$as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}" || exit $failed
