#!/bin/bash
# Builds the kernel object from source and writes it, with its manifest, to crates/ebpf/object/.
# This is the only builder; an ordinary `cargo build` embeds the committed object.
#
#   build-object.sh           build, install the object and its manifest
#   build-object.sh --check   build into a temporary directory and compare with the committed object
#
# Exit codes of --check: 0 same bytes; 1 the sources do not give the committed object; 3 this
# machine's tools are not the manifest's, so bytes cannot be compared: the fresh object's path is
# the last line on stdout, for running the capture tests with ECAPTURE_BPF_OBJECT=path.
#
# BPF_RUSTC names another compiler; it needs its own core sources in its sysroot.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
workspace=$(cd "$here/../.." && pwd)
architecture=$(uname -m)
object_name=ecapture-$architecture.bpf.o
committed=$here/object/$object_name
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

# Paths end up in the object's debug information; remapping makes the bytes the same anywhere.
flags() {
    local separator=$'\x1f' all source
    all="-Clinker=bpf-linker${separator}-Cdebuginfo=2${separator}-Clink-arg=--btf"
    all+="${separator}--cfg=bpf_target_arch=\"$architecture\"${separator}--check-cfg=cfg(bpf_target_arch,values(\"x86_64\",\"aarch64\"))"
    all+="${separator}--remap-path-prefix=$workspace=/ecapture"
    all+="${separator}--remap-path-prefix=$("$rustc" --print sysroot)/lib/rustlib/src/rust=/rust"
    for source in "$cargo_home"/registry/src/*/; do
        all+="${separator}--remap-path-prefix=${source%/}=/cargo"
    done
    printf %s "$all"
}

# build TARGET_DIRECTORY OUTPUT
build() {
    (cd "$workspace" && cargo fetch --locked >&2)
    (
        cd "$workspace"
        RUSTC=$rustc RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER= \
            CARGO_ENCODED_RUSTFLAGS=$(flags) \
            CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
            CARGO_PROFILE_RELEASE_DEBUG=2 CARGO_PROFILE_RELEASE_PANIC=abort \
            cargo build --quiet --locked --release --target-dir "$1" \
            -Z build-std=core --target bpfel-unknown-none -p ecapture-ebpf --bin ecapture-ebpf >&2
    )
    "$strip" --strip-debug -o "$2" "$1/bpfel-unknown-none/release/ecapture-ebpf"
}

field() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$manifest"; }

write_manifest() {
    cat >"$manifest" <<EOF
# Written by build-object.sh; checked by every test run.
object = "$object_name"
object_sha256 = "$(sha256sum <"$committed" | cut -d' ' -f1)"
inputs_sha256 = "$(inputs | sha256sum | cut -d' ' -f1)"
rustc = "$rustc_version"
bpf_linker = "$linker_version"
llvm_strip = "$strip_version"
EOF
}

check() {
    local fresh=$1
    if cmp -s "$fresh" "$committed"; then
        say "the sources give the committed object, byte for byte"
        exit 0
    fi
    if [ "$rustc_version|$linker_version|$strip_version" = "$(field rustc)|$(field bpf_linker)|$(field llvm_strip)" ]; then
        say "FAILED: the sources do not give the committed object; run build-object.sh and commit"
        exit 1
    fi
    say "NOT COMPARED: other tools than the manifest's, so other bytes"
    say "  here:     $rustc_version | $linker_version | $strip_version"
    say "  manifest: $(field rustc) | $(field bpf_linker) | $(field llvm_strip)"
    say "run the capture tests with ECAPTURE_BPF_OBJECT=$fresh"
    echo "$fresh"
    exit 3
}

find_tools
case "${1:-}" in
"")
    mkdir -p "$here/object"
    build "$workspace/target/bpf" "$committed"
    write_manifest
    say "wrote $committed ($(stat -c %s "$committed") bytes)"
    ;;
--check)
    directory=$(mktemp -d)
    build "$directory/target" "$directory/$object_name"
    rm -rf "$directory/target"
    check "$directory/$object_name"
    ;;
*)
    say "unknown argument: $1"
    exit 2
    ;;
esac
