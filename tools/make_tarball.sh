#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make_tarball.sh - build/tarball/rerankd-VERSION-linux-ARCH.tar.gz ("make tarball"): a program with as
# many libraries inside as can be, the starter model, the unit, install.sh.
#
# jansson, libmicrohttpd, utf8proc, xxhash, pcre2, hiredis and libseccomp are inside.  The C library,
# GnuTLS and libcurl stay the system's: they get security updates, and resolvers and backends are opened at
# run time.  The same sources give the same bits.
set -eu
cd "$(dirname "$0")/.."
out=${OUT:-build/tarball}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

version=$(sed -n 's/^#define RR_VERSION "\(.*\)"/\1/p' include/rerank.h)
name=rerankd-$version-linux-$(uname -m)
inside() { echo "-Wl,-Bstatic $* -Wl,-Bdynamic"; }
${MAKE:-make} -j"$(nproc)" OUT="$out" CC="${CC:-gcc}" PREFIX=/usr/local SAN= DEBUG= T= \
    CFLAGS="-ffile-prefix-map=$PWD=." \
    LIBS="$(inside -ljansson -lutf8proc -lxxhash -lpcre2-8 -lhiredis) -lgnutls -lpthread -ldl -lm" \
    APP_LIBS="$(inside -lmicrohttpd -lseccomp) -lgnutls -lcurl" "$out/rerankd" "$out/rerankd.1"

root=$out/$name
rm -rf "$root"
install -D -m 755 "$out/rerankd" "$root/bin/rerankd"
strip --remove-section=.comment --remove-section=.note --strip-unneeded "$root/bin/rerankd"
install -D -m 644 "$out/rerankd.1" "$root/share/man/man1/rerankd.1"
install -d "$root/share/rerankd/models/starter"
install -m 644 models/starter/* "$root/share/rerankd/models/starter"
install -D -m 644 deploy/systemd/rerankd.service "$root/systemd/rerankd.service"
install -m 644 deploy/debian/rerankd.conf "$root/rerankd.conf"
install -m 755 deploy/tarball/install.sh "$root/install.sh"
install -m 644 LICENSE CHANGELOG.md "$root"
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    -cf - "$name" | gzip -9n > "$out/$name.tar.gz"
echo "$out/$name.tar.gz"
