# Debian's kernels in an emulator, with this machine's own file tree: for tests/kernels and tests/captures, which source it.
# They say before they call: `checkout`, `cache` (a folder), `needed_modules` (to load), `patience` (seconds).

# Kernel series and the Debian suite that has it.
declare -A suites=([5.10]=bullseye [6.1]=bookworm [6.12]=trixie [7.2]=sid)

# program=Debian package
emulator_tools=(qemu-system-x86_64=qemu-system-x86 busybox=busybox-static depmod=kmod cpio=cpio xz=xz-utils /usr/bin/python3=python3)
# What is taken of the packages.
unpacked=('./*/vmlinuz*' './*lib/modules/*/modules.*' './*/fs/9p/*' './*/fs/fscache/*' './*/fs/netfs/*' './*/net/9p/*'
    './*/drivers/virtio/*' './*/net/sched/*' './*/net/8021q/*' './*/net/802/*' './*/net/llc/*' './*/net/packet/*'
    './*/drivers/net/veth.ko*' './*/drivers/net/dummy.ko*')

# Installs the packages of programs that are not there.
install_missing() {
    local missing=() tool
    for tool in "$@"; do
        command -v "${tool%%=*}" >/dev/null || missing+=("${tool##*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing: ${missing[*]}"
    apt-get -o DPkg::Lock::Timeout=600 update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# Unpacks what is needed of a kernel's packages to $cache/KERNEL: vmlinuz, the modules that mount the root, and those of
# networks.
fetch() {
    local kernel=$1 tree=$cache/$1
    [ "$(cat "$tree/complete" 2>/dev/null)" != "${unpacked[*]}" ] || return 0
    local suite=${suites[$kernel]:-}
    [ -n "$suite" ] || { echo "no suite of Debian is known for Linux $kernel" >&2; exit 2; }
    rm -rf "$tree"
    mkdir -p "$tree/apt/lists/partial" "$tree/apt/archives/partial"
    # The mirror is the one that this machine installs Debian's packages from.
    local mirror
    read -r mirror < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$tree/apt/sources.list"
    in_suite "$tree" apt-get update -qq
    local image packages=()
    image=$(newest_image "$tree" "$kernel")
    [ -n "$image" ] || { echo "Debian's $suite has no Linux $kernel" >&2; exit 1; }
    packages=("$image")
    # Since Linux 7 the modules are in a package of their own.
    case $image in linux-binary-*) packages+=("linux-modules-${image#linux-binary-}") ;; esac
    echo "fetching ${packages[*]}"
    (cd "$tree/apt" && in_suite "$tree" apt-get download -qq "${packages[@]}")
    local package
    for package in "$tree"/apt/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$tree" --wildcards "${unpacked[@]}" 2>"$tree/tar" ||
            grep -q 'Not found in archive' "$tree/tar"
    done
    [ -e "$tree/lib" ] || ln -s usr/lib "$tree/lib"
    # A release that the initial file system's insmod can load.
    find "$tree" -name '*.ko.xz' -exec xz -d {} +
    # Its warnings are about lists that are in other packages.
    depmod -b "$tree" "$(release "$tree")" 2>/dev/null
    rm -rf "$tree/apt" "$tree/tar"
    echo "${unpacked[*]}" >"$tree/complete"
}

# Runs a program of apt with lists and sources of its own.
in_suite() {
    local apt=$1/apt program=$2
    shift 2
    "$program" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$apt/lists" \
        -o Dir::Cache="$apt" -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o APT::Sandbox::User=root "$@"
}

newest_image() {
    local tree=$1 kernel=$2 kind names
    names=$(in_suite "$tree" apt-cache pkgnames "linux-")
    for kind in binary image; do
        grep -E "^linux-$kind-${kernel//./\\.}\.[0-9]+(\+[a-z0-9]+|-[0-9]+)-amd64$" <<<"$names" | sort -V | tail -1 | grep . && return
    done
    return 0
}

release() {
    ls "$1/lib/modules"
}

# Boots a kernel with the host's own files, read-only, as its root, and runs a program of the checkout there with
# `--results` and further arguments. It ends when that has ended.
boot() {
    local kernel=$1 results=$2 tree=$cache/$1
    shift 2
    initial_file_system "$tree" "$@" >"$results/initrd"
    local share=security_model=none,multidevs=remap
    # Software emulation everywhere, so that it is the same everywhere. What the emulator only loses time with is off:
    # a fifth level of page tables, checks of each access to memory (SMAP, SMEP, keys), memory zeroed before it is used.
    # One thread takes turns at the machine's processors. With a thread for each, the kernel of a guest panicked now and
    # then where it had just switched a tracepoint off: a processor still executed the `int3` that stands there meanwhile.
    timeout "$patience" nice -n 5 qemu-system-x86_64 -accel tcg,thread=single -cpu max,la57=off,smap=off,smep=off,pku=off -smp 2 -m 2G -nographic -no-reboot -nic none \
        -kernel "$(find "$tree" -name 'vmlinuz*')" -initrd "$results/initrd" -append "console=ttyS0 quiet panic=-1 init_on_alloc=0" \
        -fsdev local,id=root,path=/,readonly=on,$share -device virtio-9p-pci,fsdev=root,mount_tag=root \
        -fsdev local,id=results,path="$results",$share -device virtio-9p-pci,fsdev=results,mount_tag=results \
        </dev/null >"$results/console" 2>&1 || echo "the emulator ended with $?" >>"$results/console"
    rm -f "$results/initrd"
}

# Mounts the host's files and goes on with tests/kernel-guest/init.
initial_file_system() {
    local tree=$1 folder number=0 module
    shift
    folder=$(mktemp -d)
    mkdir -p "$folder"/{bin,dev,proc,root,modules}
    cp "$(command -v busybox)" "$folder/bin/busybox"
    for module in 9p 9pnet_virtio virtio_pci "${needed_modules[@]}"; do
        # One that is not there is built in.
        modprobe -d "$tree" -S "$(release "$tree")" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
        cp "$module" "$folder/modules/$((100 + number++))-$(basename "$module")"
    done
    {
        echo '#!/bin/busybox sh'
        echo '/bin/busybox --install -s /bin; export PATH=/bin'
        echo 'mount -t proc proc /proc; mount -t devtmpfs devtmpfs /dev'
        echo 'for module in /modules/*; do insmod "$module"; done'
        echo 'mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=524288 root /root || poweroff -f'
        echo 'umount /proc /dev'
        echo "exec switch_root /root /bin/sh $checkout/tests/kernel-guest/init $checkout $*"
    } >"$folder/init"
    chmod +x "$folder/init"
    (cd "$folder" && find . | cpio --quiet -o -H newc | gzip -1)
    rm -rf "$folder"
}
