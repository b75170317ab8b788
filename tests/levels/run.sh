#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh - the machine code of instruction set levels that this processor lacks: boots Linux with the
# tests in Bochs, an emulated PC, and ends with "N passed, N failed".
#
#   tests/levels/run.sh BUILD      a build folder with rerankd and the test programs
#
# BOCHS=program, BOCHS_CPU=model    another Bochs, another processor ("bochs --help cpu")
# LEVELS="avx512 ..."               levels to check, worst first: each must be there, the last be the best
# BOCHS_SHARE=folder                where its BIOS and VGA BIOS are
# BOCHS_DISPLAY=nogui               for a Bochs built so; term is Debian's
# KERNEL=file                       a bzImage; else that of Debian's linux-image-cloud-amd64
# T=text                            commands with this text alone, for example checkkern
# SEED, CASES                       of checkkern
# LIMIT=seconds                     for all of it (7200)
# Exit status 77: something is not installed.
set -u

out=$1 work=$1/levels
bochs=${BOCHS:-bochs}
model=${BOCHS_CPU:-tigerlake}
share=${BOCHS_SHARE:-/usr/share/bochs}
boot=/usr/lib/ISOLINUX/isolinux.bin
loader=/usr/lib/syslinux/modules/bios/ldlinux.c32

skip() {
    echo "SKIP: $1; tools/deps.sh levels installs what is missing"
    exit 77
}
fail() {
    echo "FAIL: $1"
    echo "0 passed, 1 failed"
    exit 1
}

for program in "$bochs" xorriso cpio; do
    command -v "$program" > /dev/null || skip "$program is not installed"
done
for file in $boot $loader "$share/BIOS-bochs-latest"; do
    [ -e "$file" ] || skip "$file is not there"
done
case $model in
    corei7_skylake_x) levels="avx512" ;;
    corei7_icelake_u | tigerlake) levels="avx512 avx512vnni" ;;
    arrow_lake) levels="avxvnni" ;;
    sapphire_rapids) levels="avxvnni avx512 avx512vnni avx512bf16" ;;
    *) levels= ;;
esac
levels=${LEVELS:-$levels}
[ -n "$levels" ] || fail "LEVELS must say what a $model is to run"

root=$work/root
rm -rf "$work/root" "$work/iso"
mkdir -p "$root"/{proc,sys,dev,tmp,work/tools,usr/bin,usr/lib,usr/lib64} "$work/iso"
for d in bin lib lib64; do ln -s usr/$d "$root/$d"; done

# ---- the kernel -------------------------------------------------------------------------------------

kernel=${KERNEL:-$work/vmlinuz}
if [ ! -e "$kernel" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 2> /dev/null | sed -n 's/.*Depends: \(linux-image[^ ]*\).*/\1/p')
    [ -n "$package" ] && (cd "$work" && apt-get download -q "$package") &&
        dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -xO --wildcards './boot/vmlinuz-*' > "$work/vmlinuz.part" &&
        mv "$work/vmlinuz.part" "$kernel" || skip "there is no kernel, and none to download (KERNEL=file names one)"
    rm -f "$work/$package"_*.deb
fi

# ---- what it is to run --------------------------------------------------------------------------------

# What is quick first; what takes minutes and differs little between levels, at the best alone.
best=${levels##* }
ties=
"$bochs" --help 2>&1 | grep -q 'Emulator 2\.' && ties="RR_TEST_TIES_UP=1 "
commands() { # %s stands for a level
    local list="$1" level
    shift
    for level in $list; do
        printf "$*\\n" "$level"
    done
}
{
    commands "$best" "build/rerankd doctor --model models/starter | grep 'Device .*, %s,'"
    commands "$levels" "${ties}build/tests/kern/checkkern --native --isa %s --seed ${SEED:-1} --cases ${CASES:-200}"
    commands "$levels" tests/levels/scores.sh %s
    commands "$levels" RR_TEST_ISA=%s build/tests/backend/test_cpu_bits
    commands "$best" RR_TEST_ISA=%s build/tests/unit/test_parity
} | grep -F -- "${T:-}" > "$root/commands" || fail "no command has '$T' in it"

# ---- files of the emulated machine --------------------------------------------------------------------

libraries() { # of a program, where it will look for them
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$root$library" ] || install -D "$(readlink -f "$library")" "$root$library"
    done
}
for name in bash env timeout mktemp mount sleep sed grep head cat cmp wc rm awk; do
    program=$(readlink -f "$(command -v $name)") || skip "$name is not installed"
    install "$program" "$root/usr/bin/$name"
    libraries "$program"
done
for name in rerankd tests/kern/checkkern tests/backend/test_cpu_bits tests/unit/test_parity; do
    install -D "$out/$name" "$root/work/build/$name"
    libraries "$out/$name"
    strip -g "$root/work/build/$name"
done
install tools/run_tests.sh "$root/work/tools"
install -D tests/levels/scores.sh "$root/work/tests/levels/scores.sh"
install tests/levels/init "$root/init"
if grep -qv checkkern "$root/commands"; then # which needs no models
    mkdir -p "$root/work/models" "$root/work/tests/golden"
    cp -r models/starter "$root/work/models"
    sed -i '9,$d' "$root/work/models/starter/reference.jsonl"
    cp -r tests/golden/models "$root/work/tests/golden"
fi
(cd "$root" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1) > "$work/iso/initrd" || exit 1

# ---- the machine --------------------------------------------------------------------------------------

# What Linux 6.1 does not survive is hidden from it: Bochs says that short copies are fast and that long
# ones are not, has tiles without XFD, and, version 2.7, protection keys without their registers and
# another size of saved registers than the sum of their sizes.
hidden=fsrm,pku
[[ " $levels " = *" amx "* ]] || hidden=$hidden,amx_tile,xsaves,xsavec
# A kernel that panics restarts by a triple fault, which ends Bochs.
cp "$kernel" "$work/iso/vmlinuz" && cp $boot $loader "$work/iso" || exit 1
cat > "$work/iso/isolinux.cfg" << END
default rerankd
label rerankd
kernel vmlinuz
append initrd=initrd console=ttyS0 quiet panic=-1 reboot=t mitigations=off nokaslr nosmp clearcpuid=$hidden
END
xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
    -boot-info-table "$work/iso" 2> /dev/null || fail "xorriso made no image"
for video in "$share"/VGABIOS-lgpl-latest{,.bin}; do
    [ -e "$video" ] && break
done
cat > "$work/bochsrc" << END
cpu: model=$model, ips=50000000, reset_on_triple_fault=0
megs: 1024
romimage: file=$share/BIOS-bochs-latest
vgaromimage: file=$video
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
clock: sync=none
log: $work/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
display_library: ${BOCHS_DISPLAY:-term}
END
# Debian's Bochs begins in its debugger: "c" goes on.
debugger=()
if "$bochs" --help 2>&1 | grep -q -- '-rc filename'; then
    echo c > "$work/debugger"
    debugger=(-rc "$work/debugger")
fi

rm -f "$work/serial" "$work"/*.lock
echo "Linux on a $model in $bochs: $levels.  What it prints: $work/serial"
start=$SECONDS
TERM=linux timeout --signal=KILL "${LIMIT:-7200}" "$bochs" -q -f "$work/bochsrc" "${debugger[@]}" \
    < /dev/null > "$work/bochs.out" 2>&1
rc=$?
[ -e "$work/serial" ] || fail "nothing came from the emulated machine (exit status $rc, $work/bochs.out, bochs.log)"
tr -d '\r' < "$work/serial" | sed '/^end of the tests/q' > "$work/output"
grep -v '^end of the tests\|passed, [0-9]* failed$' "$work/output"
grep -q '^end of the tests' "$work/output" ||
    fail "the tests did not end (exit status $rc after $((SECONDS - start)) s, $work/bochs.out)"
echo "took $((SECONDS - start)) s"
grep 'passed, [0-9]* failed' "$work/output" | tail -n 1
grep -q '^end of the tests: 0$' "$work/output"
