#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# rootfs.sh - everything the final image holds, in one folder: program, libraries, starter model.
#
#   deploy/docker/rootfs.sh PROGRAM DEST
#
# The Dockerfile's build stage runs it, and so does tests/deploy/image.py, which then changes its root
# to DEST: a library that is missing here is missing there.
set -eu

program=$1 dest=$2
mkdir -p "$dest/usr/bin" "$dest/etc/ssl/certs" "$dest/models" "$dest/data"
install -d -m 1777 "$dest/tmp"
install -d "$dest/usr/share/rerankd/models/starter"
install -m 644 models/starter/* "$dest/usr/share/rerankd/models/starter"
install -m 755 "$program" "$dest/usr/bin/rerankd"
strip --strip-unneeded "$dest/usr/bin/rerankd"

# Libraries where the loader looks for them, the loader itself included.
ldd "$program" | awk '/=> \//{ print $3 } /^\t\/.*ld-/{ print $1 }' | while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$dest$library"
done

printf 'root:x:0:0:root:/:/sbin/nologin\nrerankd:x:65532:65532:rerankd:/data:/sbin/nologin\n' > "$dest/etc/passwd"
printf 'root:x:0:\nrerankd:x:65532:\n' > "$dest/etc/group"
printf 'hosts: files dns\n' > "$dest/etc/nsswitch.conf"
# For collectors and caches that are reached over TLS.
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    install -m 644 /etc/ssl/certs/ca-certificates.crt "$dest/etc/ssl/certs/ca-certificates.crt"
fi
# A new volume takes its owner from the image: models are downloaded into it.
chown 65532:65532 "$dest/data" "$dest/models"
