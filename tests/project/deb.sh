#!/usr/bin/env bash
# The Debian package on a bare Debian 12: apt installs it with what it depends on, the command runs,
# and a program linked with the library finds the same boxes. Needs root and debootstrap.
# Usage: deb.sh BUILD PACKAGE.deb; a minimal system to start from may be given as PQ_DEBIAN.
set -euo pipefail
build=$1 package=$2
[ -e "$package" ] || { echo "skipped: no package (make deb)"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "skipped: not root"; exit 77; }
[ -n "${PQ_DEBIAN:-}" ] || command -v debootstrap >/dev/null || { echo "skipped: no debootstrap"; exit 77; }
temp=$(mktemp -d)
system=$temp/system
trap 'umount "$system/proc" 2>/dev/null || true; rm -rf --one-file-system "$temp"' EXIT
if [ -n "${PQ_DEBIAN:-}" ]; then
    cp -a "$PQ_DEBIAN" "$system"
else
    debootstrap --variant=minbase bookworm "$system" >"$temp/log" || { tail "$temp/log"; exit 1; }
fi
# Mirrors and proxies as on this machine.
rm -rf "$system"/etc/apt/sources.list*
cp -rL /etc/apt/sources.list* /etc/apt/apt.conf* "$system/etc/apt/" 2>/dev/null || true
cp -L /etc/resolv.conf /etc/hosts "$system/etc/"
mount -t proc proc "$system/proc"
inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$system" "$@"; }

mkdir "$system/try" "$temp/unpacked"
cp "$package" "$system/try/pquant.deb"
cp sample/damoyolo_shapes_Ns.pth "$system/try/"
"$build/pquant-scenes" --seed 3 --count 1 --out "$system/try/scenes" >/dev/null
dpkg-deb -x "$package" "$temp/unpacked"
libdir=$(dirname "$(find "$temp/unpacked" -name libpquant.so)")
cc -std=c11 -I"$temp/unpacked/usr/include" examples/detect.c -o "$system/try/detect" -L"$libdir" \
    -lpquant -Wl,--allow-shlib-undefined

inside apt-get update -q >"$temp/log" 2>&1 || { tail "$temp/log"; exit 1; }
inside apt-get install -y -q --no-install-recommends /try/pquant.deb >"$temp/log" 2>&1 ||
    { tail -20 "$temp/log"; exit 1; }
inside pquant --version
inside pquant engines
inside pquant export /try/damoyolo_shapes_Ns.pth -o /try/model.pqe
inside pquant detect /try/model.pqe /try/scenes/images/000001.png --conf-thres 0.3 >"$temp/command"
inside /try/detect /try/model.pqe /try/scenes/images/000001.png | tee "$temp/program"
[ "$(wc -l <"$temp/program")" -ge 3 ]
[ "$(grep -c . "$temp/program")" = "$(grep -c '0\.[0-9]' "$temp/command")" ]
for file in share/man/man1/pquant.1 share/bash-completion/completions/pquant \
    share/zsh/vendor-completions/_pquant include/pquant/pquant.h; do
    [ -s "$system/usr/$file" ] || { echo "no $file"; exit 1; }
done
inside dpkg --audit
inside apt-get remove -y -q pquant >/dev/null 2>&1
[ ! -e "$system/usr/bin/pquant" ]
