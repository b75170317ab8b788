#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh - installs rerankd from the folder that this script is in.
#
#   ./install.sh                  into /usr/local; with systemd also the unit and the user
#   PREFIX=/opt/rerankd ./install.sh
#   ./install.sh --uninstall      settings and models stay
#
# DESTDIR puts everything below another root, without making a user or touching systemd.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}
conf=$root/etc/rerankd/rerankd.conf
unit=$root/etc/systemd/system/rerankd.service
live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

if [ "${1:-}" = --uninstall ]; then
    if live; then systemctl disable --now rerankd.service || true; fi
    rm -f "$root$prefix/bin/rerankd" "$root$prefix/share/man/man1/rerankd.1" "$unit"
    rm -rf "$root$prefix/share/rerankd"
    echo "removed; $conf and /var/lib/rerankd are left"
    exit 0
fi
[ $# -eq 0 ] || { echo "install.sh: found $1, expected nothing or --uninstall" >&2; exit 64; }

# What the system must have: said before anything is written.
missing=$(ldd "$here/bin/rerankd" | awk '/not found/{ printf " %s", $1 }')
if [ -n "$missing" ]; then
    echo "install.sh: these libraries are missing:$missing" >&2
    echo "Debian, Ubuntu: apt-get install libgnutls30 libcurl4" >&2
    exit 69
fi
install -D -m 755 "$here/bin/rerankd" "$root$prefix/bin/rerankd"
install -D -m 644 "$here/share/man/man1/rerankd.1" "$root$prefix/share/man/man1/rerankd.1"
mkdir -p "$root$prefix/share/rerankd/models/starter"
install -m 644 "$here"/share/rerankd/models/starter/* "$root$prefix/share/rerankd/models/starter"
if [ ! -e "$conf" ]; then # an upgrade keeps the settings
    mkdir -p "$(dirname "$conf")"
    install -m 644 "$here/rerankd.conf" "$conf"
fi
mkdir -p "$(dirname "$unit")"
sed "s|/usr/bin/rerankd|$prefix/bin/rerankd|" "$here/systemd/rerankd.service" > "$unit"
if live; then
    id rerankd > /dev/null 2>&1 || useradd --system --home-dir /var/lib/rerankd --shell /usr/sbin/nologin rerankd
    systemctl daemon-reload
    echo "installed; start it: systemctl enable --now rerankd"
else
    echo "installed; start it: $prefix/bin/rerankd serve"
fi
