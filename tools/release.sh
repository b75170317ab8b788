#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# release.sh - makes a release in build/release and tags it; pushes nothing.
#
#   tools/release.sh [--dry-run] VERSION
#
# --dry-run: checks and files, without the long tests and the tag.
set -eu

dry=
[ "${1:-}" = --dry-run ] && { dry=yes; shift; }
version=${1:?usage: tools/release.sh [--dry-run] VERSION}
cd "$(dirname "$0")/.."
out=build/release

fail() {
    echo "release: $*" >&2
    exit 1
}

# What names a version must name this one.
says() { # file pattern
    grep -q -- "$2" "$1" || fail "$1 does not say $version (looked for: $2)"
}
says include/rerank.h "RR_VERSION \"$version\""
says deploy/helm/rerankd/Chart.yaml "^appVersion: $version\$"
says deploy/kubernetes/kustomization.yaml "newTag: $version}"
if [ -z "$dry" ]; then
    says CHANGELOG.md "^## .*$version"
    [ -z "$(git status --porcelain)" ] || fail "the tree has changes: commit or stash them"
    git rev-parse -q --verify "refs/tags/v$version" > /dev/null && fail "the tag v$version is there already"
    make -j2 all
    make test
    make test-deploy
fi

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$out"
mkdir -p "$out"
make deb
cp build/deb/rerankd_"$version"_*.deb "$out"
make tarball
cp build/tarball/rerankd-"$version"-linux-*.tar.gz "$out"
if make deb-cuda; then cp build/deb/rerankd-cuda_"$version"_*.deb "$out"; fi # not without nvcc
tools/sbom.py build/deb/rerankd > "$out/rerankd-$version.spdx.json"
git archive --format=tar --prefix="rerankd-$version/" HEAD | gzip -9n > "$out/rerankd-$version.tar.gz"
(cd "$out" && sha256sum -- * > SHA256SUMS)
cat "$out/SHA256SUMS"

[ -n "$dry" ] || git tag -a "v$version" -m "rerankd $version"
echo "$out is complete. Sign it: gpg --detach-sign --armor $out/SHA256SUMS"
