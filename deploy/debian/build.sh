#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build.sh - makes build/deb/rerankd_VERSION_ARCH.deb ("make deb").
#
# The same sources give the same bits: times come from SOURCE_DATE_EPOCH (default: the last commit),
# paths of the build are mapped away.  Needs dpkg-dev; no debhelper.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
cd "$here"
out=${OUT:-build/deb}
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

for program in dpkg-deb dpkg-shlibdeps; do
    command -v $program > /dev/null || { echo "$program is missing: apt-get install dpkg-dev" >&2; exit 1; }
done

version=$(sed -n 's/^#define RR_VERSION "\(.*\)"/\1/p' include/rerank.h)
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-The rerankd developers} <${DEBEMAIL:-rerankd@example.invalid}>"
root=$out/root
rm -rf "$root"

${MAKE:-make} -j"$(nproc)" OUT="$out" CC="${CC:-gcc}" PREFIX=/usr SAN= DEBUG= T= \
    CFLAGS="-ffile-prefix-map=$here=." all
install -d "$root/DEBIAN" "$root/usr/share/doc/rerankd"
install -D -m 755 "$out/rerankd" "$root/usr/bin/rerankd"
strip --remove-section=.comment --remove-section=.note --strip-unneeded "$root/usr/bin/rerankd"
install -D -m 644 "$out/rerankd.1" "$root/usr/share/man/man1/rerankd.1"
install -d "$root/usr/share/rerankd/models/starter"
install -m 644 models/starter/* "$root/usr/share/rerankd/models/starter"
install -D -m 644 deploy/systemd/rerankd.service "$root/lib/systemd/system/rerankd.service"
install -D -m 644 deploy/debian/rerankd.conf "$root/etc/rerankd/rerankd.conf"
install -d "$root/usr/share/bash-completion/completions"
"$out/rerankd" --completion bash > "$root/usr/share/bash-completion/completions/rerankd"
install -d "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
"$out/rerankd" --completion zsh > "$root/usr/share/zsh/vendor-completions/_rerankd"
"$out/rerankd" --completion fish > "$root/usr/share/fish/vendor_completions.d/rerankd.fish"

doc=$root/usr/share/doc/rerankd
install -m 644 deploy/debian/copyright "$doc/copyright"
install -d "$doc/examples"
install -m 644 deploy/systemd/*.conf deploy/systemd/rerankd.socket deploy/haproxy/haproxy.cfg \
    deploy/prometheus/*.yml deploy/grafana/rerankd.json "$doc/examples"
printf 'rerankd (%s) unstable; urgency=medium\n\n  * New upstream version; see CHANGELOG.md in its sources.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -R -d "@$SOURCE_DATE_EPOCH")" > "$doc/changelog"
gzip -9n "$doc/changelog" "$root/usr/share/man/man1/rerankd.1"

install -m 755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$root/DEBIAN"
echo /etc/rerankd/rerankd.conf > "$root/DEBIAN/conffiles"

# dpkg-shlibdeps insists on a source package's control file.
mkdir -p "$out/debian"
printf 'Source: rerankd\n\nPackage: rerankd\nArchitecture: any\n' > "$out/debian/control"
depends=$(cd "$out" && dpkg-shlibdeps -O root/usr/bin/rerankd 2> /dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "dpkg-shlibdeps found no libraries" >&2; exit 1; }
cat > "$root/DEBIAN/control" << END
Package: rerankd
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(cd "$root" && find etc lib usr -type f -printf '%s\n' | awk '{ n += int(($1 + 1023) / 1024) } END { print n }')
Depends: adduser, init-system-helpers (>= 1.54), $depends
Suggests: haproxy, prometheus, redis-server
Section: net
Priority: optional
Description: cross-encoder rerank server
 Ranks passages by how well they answer a query, with the scores of a
 cross-encoder model (BERT, XLM-RoBERTa, ModernBERT, DeBERTa, Qwen3...),
 over HTTP. One port speaks the request forms of text-embeddings-inference,
 Cohere, Jina, vLLM and ragfab.
 .
 A small demonstration model is included.
END
(cd "$root" && find etc lib usr -type f -print0 | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"

find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0r touch -h -d "@$SOURCE_DATE_EPOCH"
dpkg-deb --root-owner-group --uniform-compression -Zxz --build "$root" \
    "$out/rerankd_${version}_$arch.deb"
