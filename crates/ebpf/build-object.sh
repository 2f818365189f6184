#!/bin/bash
# Builds the kernel objects from source, one per architecture, and writes them to crates/ebpf/object/
# with their manifest. This is the only builder; an ordinary `cargo build` embeds the committed objects.
# Any machine builds them for every architecture.
#
#   build-object.sh           build, install the objects and their manifest
#   build-object.sh --check   build into a temporary directory and compare with the committed objects
#   … --arch ARCHITECTURE     only this one, x86_64 or aarch64; a commit needs both
#
# Exit codes of --check: 0 same bytes; 1 the sources do not give the committed objects; 3 this
# machine's tools are not the manifest's, so bytes cannot be compared: the path of the fresh object for this
# machine's own architecture is the last line on stdout, for running the capture tests with
# ECAPTURE_BPF_OBJECT=path.
#
# BPF_RUSTC names another compiler; it needs its own core sources in its sysroot.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$here/../.." && pwd)
architectures="aarch64 x86_64"
manifest=$here/object/MANIFEST.toml
bpf_linker_version=0.10.3
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export PATH=$cargo_home/bin:$PATH

say() { echo "build-object: $*" >&2; }

install_package() {
    [ "$(id -u)" = 0 ] || { say "missing $1: run 'apt-get install $1' as root"; exit 2; }
    say "installing $*"
    apt-get install -y --no-install-recommends "$@" >&2 ||
        { apt-get update >&2 && apt-get install -y --no-install-recommends "$@" >&2; }
}

find_tools() {
    rustc=${BPF_RUSTC:-/usr/bin/rustc}
    if [ -z "${BPF_RUSTC:-}" ] && { [ ! -x "$rustc" ] || [ ! -d "$("$rustc" --print sysroot)/lib/rustlib/src/rust/library/core" ]; }; then
        install_package rustc-web rust-web-src
    fi
    if [ "$(bpf-linker --version 2>/dev/null)" != "bpf-linker $bpf_linker_version" ]; then
        say "installing bpf-linker $bpf_linker_version"
        cargo install bpf-linker --version "$bpf_linker_version" --locked >&2
    fi
    strip=$(command -v llvm-strip || ls /usr/bin/llvm-strip-* 2>/dev/null | tail -1 || true)
    if [ -z "$strip" ]; then
        install_package llvm
        strip=$(command -v llvm-strip)
    fi
    rustc_version=$("$rustc" --version)
    linker_version=$(bpf-linker --version)
    strip_version=$("$strip" --version | sed -n 's/.*\(LLVM version .*\)/\1/p' | head -1)
}

# One line per input: what the object is made from.
inputs() {
    (
        cd "$workspace"
        find crates/ebpf/src crates/ebpf/Cargo.toml crates/ebpf/build-object.sh -type f | LC_ALL=C sort |
            while read -r file; do echo "$(sha256sum <"$file" | cut -d' ' -f1) $file"; done
        awk '$1 == "name" { name = $3 } $1 == "version" { version = $3 }
             $1 == "checksum" && name ~ /^"aya-ebpf/ { gsub(/"/, "", name); gsub(/"/, "", version); gsub(/"/, "", $3); print $3, name, version }' Cargo.lock
    )
}

object_name() { echo "ecapture-$1.bpf.o"; }

# flags ARCHITECTURE
# Paths end up in the object's debug information; remapping makes the bytes the same anywhere.
flags() {
    local architecture=$1 separator=$'\x1f' all source
    all="-Clinker=bpf-linker${separator}-Cdebuginfo=2${separator}-Clink-arg=--btf"
    all+="${separator}--cfg=bpf_target_arch=\"$architecture\"${separator}--check-cfg=cfg(bpf_target_arch,values(\"x86_64\",\"aarch64\"))"
    all+="${separator}--remap-path-prefix=$workspace=/ecapture"
    all+="${separator}--remap-path-prefix=$("$rustc" --print sysroot)/lib/rustlib/src/rust=/rust"
    for source in "$cargo_home"/registry/src/*/; do
        all+="${separator}--remap-path-prefix=${source%/}=/cargo"
    done
    printf %s "$all"
}

# build ARCHITECTURE TARGET_DIRECTORY OUTPUT
build() {
    local architecture=$1 target=$2 output=$3
    say "building for $architecture"
    (cd "$workspace" && cargo fetch --locked >&2)
    (
        cd "$workspace"
        RUSTC=$rustc RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER= \
            CARGO_ENCODED_RUSTFLAGS=$(flags "$architecture") \
            CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
            CARGO_PROFILE_RELEASE_DEBUG=2 CARGO_PROFILE_RELEASE_PANIC=abort \
            cargo build --quiet --locked --release --target-dir "$target" \
            -Z build-std=core --target bpfel-unknown-none -p ecapture-ebpf --bin ecapture-ebpf >&2
    )
    "$strip" --strip-debug -o "$output" "$target/bpfel-unknown-none/release/ecapture-ebpf"
}

# section ARCHITECTURE: its part of the manifest.
section() { sed -n "/^\[$1\]/,/^$/p" "$manifest" 2>/dev/null; }

# field ARCHITECTURE NAME
field() { section "$1" | sed -n "s/^$2 = \"\(.*\)\"/\1/p"; }

sha256() { sha256sum | cut -d' ' -f1; }

# write_section ARCHITECTURE
write_section() {
    echo "[$1]"
    echo "object_sha256 = \"$(sha256 <"$here/object/$(object_name "$1")")\""
    echo "inputs_sha256 = \"$(inputs | sha256)\""
    echo "rustc = \"$rustc_version\""
    echo "bpf_linker = \"$linker_version\""
    echo "llvm_strip = \"$strip_version\""
    echo
}

write_manifest() {
    local architecture
    {
        echo "# Written by build-object.sh; checked by every test run."
        echo
        for architecture in aarch64 x86_64; do
            if [[ " $architectures " = *" $architecture "* ]]; then
                write_section "$architecture"
            else
                section "$architecture"
            fi
        done
    } >"$manifest.new"
    mv "$manifest.new" "$manifest"
}

write_objects() {
    local architecture output
    mkdir -p "$here/object"
    for architecture in $architectures; do
        output=$here/object/$(object_name "$architecture")
        build "$architecture" "$workspace/target/bpf/$architecture" "$output"
        say "wrote $output ($(stat -c %s "$output") bytes)"
    done
    write_manifest
}

# Whether the committed object was built by this machine's tools.
same_tools() {
    [ "$rustc_version|$linker_version|$strip_version" = "$(field "$1" rustc)|$(field "$1" bpf_linker)|$(field "$1" llvm_strip)" ]
}

check() {
    local architecture fresh directory different=
    directory=$(mktemp -d)
    for architecture in $architectures; do
        fresh=$directory/$(object_name "$architecture")
        build "$architecture" "$directory/target" "$fresh"
        rm -rf "$directory/target"
        cmp -s "$fresh" "$here/object/$(object_name "$architecture")" || different+=" $architecture"
    done
    if [ -z "$different" ]; then
        say "the sources give the committed objects ($architectures), byte for byte"
        rm -rf "$directory"
        exit 0
    fi
    for architecture in $different; do
        if same_tools "$architecture"; then
            say "FAILED: the sources do not give the committed object for $architecture; run build-object.sh and commit"
            exit 1
        fi
        say "NOT COMPARED for $architecture: other tools than the manifest's, so other bytes"
        say "  here:     $rustc_version | $linker_version | $strip_version"
        say "  manifest: $(field "$architecture" rustc) | $(field "$architecture" bpf_linker) | $(field "$architecture" llvm_strip)"
    done
    fresh=$directory/$(object_name "$(uname -m)")
    [ -e "$fresh" ] || exit 3
    say "run the capture tests with ECAPTURE_BPF_OBJECT=$fresh"
    echo "$fresh"
    exit 3
}

action=write_objects
while [ $# -gt 0 ]; do
    case $1 in
    --check) action=check ;;
    --arch)
        shift
        architectures=${1:-}
        case $architectures in
        aarch64 | x86_64) ;;
        *) say "--arch takes aarch64 or x86_64" && exit 2 ;;
        esac
        ;;
    *) say "unknown argument: $1" && exit 2 ;;
    esac
    shift
done
find_tools
"$action"
