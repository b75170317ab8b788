#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_cuda.sh - makes build/deb/rerankd-cuda_VERSION_ARCH.deb ("make deb-cuda"): the plugin that
# "make cuda" builds, where rerankd's package looks for it.
#
# CUDA=12 for a driver older than 580; CUDA_ARCHS as in plugins/cuda/cuda.mk.  The driver comes from
# the machine: libcuda is opened at run time and is no dependency of the package.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
cd "$here"
out=${OUT:-build/deb}
plugins=${PLUGINS:-build}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

command -v dpkg-deb > /dev/null || { echo "dpkg-deb is missing: apt-get install dpkg-dev" >&2; exit 1; }
${MAKE:-make} OUT="$plugins" SAN= DEBUG= T= CUDA="${CUDA:-13}" ${CUDA_ARCHS:+CUDA_ARCHS="$CUDA_ARCHS"} cuda
plugin=$plugins/librerank_cuda.so
if [ ! -e "$plugin" ]; then # "make cuda" has said why
    echo "SKIP: no rerankd-cuda package without nvcc"
    exit 77
fi

version=$(sed -n 's/^#define RR_VERSION "\(.*\)"/\1/p' include/rerank.h)
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-The rerankd developers} <${DEBEMAIL:-rerankd@example.invalid}>"
root=$out/root-cuda
doc=$root/usr/share/doc/rerankd-cuda
rm -rf "$root"
install -d "$root/DEBIAN" "$doc/examples"
install -D -m 644 "$plugin" "$root/usr/lib/rerankd/librerank_cuda.so"
strip --remove-section=.comment --remove-section=.note --strip-unneeded \
    "$root/usr/lib/rerankd/librerank_cuda.so"
install -m 644 deploy/debian/copyright "$doc/copyright"
cat >> "$doc/copyright" << 'END'

Files: /usr/lib/rerankd/librerank_cuda.so
Copyright: 2026 The rerankd developers
           NVIDIA Corporation (the CUDA runtime, linked in)
License: Apache-2.0 and NVIDIA-CUDA-EULA
 The CUDA runtime may be distributed as part of an application under the
 End User License Agreement of the NVIDIA CUDA Toolkit, attachment A.
END
install -m 644 deploy/systemd/gpu.conf "$doc/examples/gpu.conf"
printf 'rerankd-cuda (%s) unstable; urgency=medium\n\n  * New upstream version; see CHANGELOG.md in its sources.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -R -d "@$SOURCE_DATE_EPOCH")" > "$doc/changelog"
gzip -9n "$doc/changelog"

mkdir -p "$out/debian"
printf 'Source: rerankd\n\nPackage: rerankd-cuda\nArchitecture: any\n' > "$out/debian/control"
depends=$(cd "$out" && dpkg-shlibdeps -O root-cuda/usr/lib/rerankd/librerank_cuda.so 2> /dev/null |
    sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "dpkg-shlibdeps found no libraries" >&2; exit 1; }
cat > "$root/DEBIAN/control" << END
Package: rerankd-cuda
Source: rerankd
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(cd "$root" && find usr -type f -printf '%s\n' | awk '{ n += int(($1 + 1023) / 1024) } END { print n }')
Depends: rerankd (= $version), $depends
Section: non-free/net
Priority: optional
Description: cross-encoder rerank server - plugin for NVIDIA GPUs
 Computes on NVIDIA GPUs of compute capability 7.5 and newer what rerankd
 otherwise computes on the processor. rerankd finds it by itself.
 .
 It needs NVIDIA's driver, 580 or newer when it was built with CUDA 13.
 Under systemd also the drop-in examples/gpu.conf, which opens the driver's
 devices to the service.
END
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"

find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0r touch -h -d "@$SOURCE_DATE_EPOCH"
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$root" \
    "$out/rerankd-cuda_${version}_$arch.deb"
