"""What an unprivileged user can do to a capture: `hostile.py ACTION FOLDER ARGUMENTS…`, as that user.

Prints `ready`, and stays until its standard input ends.
"""
import ctypes
import fcntl
import mmap
import os
import select
import shutil
import struct
import sys

KEPT = []


def execute(path):
    """Maps a file as the loader maps a library."""
    descriptor = os.open(path, os.O_RDONLY)
    size = min(4096, os.fstat(descriptor).st_size)
    KEPT.append(mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC))
    os.close(descriptor)


def library(path, code_at=0x78, symbols=1, names=b"\0SSL_read\0SSL_write\0"):
    """An ELF file with SSL_read and SSL_write, which says that its code is at `code_at`. More symbols
    than one all have the name at the beginning of `names`."""
    code = b"\x55\x5d\xc3\x90" * 16
    both = symbol(1, 0x400000) + symbol(10, 0x400010) if symbols == 1 else symbol(0, 0x400000) * symbols
    parts = [(b".dynsym", 11, both), (b".dynstr", 3, names)]
    with open(path, "wb") as file:
        file.seek(0x78)
        file.write(code)
        headers, texts = b"\0" * 64, b"\0"
        for name, kind, data in parts:
            headers += section(len(texts), kind, file.tell(), len(data))
            texts += name + b"\0"
            file.write(data)
        headers += section(len(texts), 3, file.tell(), len(texts) + 10)
        texts += b".shstrtab\0"
        file.write(texts)
        at = file.tell()
        file.write(headers)
        file.seek(0)
        file.write(b"\x7fELF\x02\x01\x01" + b"\0" * 9)
        file.write(struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0x400000, 64, at, 0, 64, 56, 1, 64, 4, 3))
        file.write(struct.pack("<IIQQQQQQ", 1, 5, code_at, 0x400000, 0x400000, 0x1000, 0x1000, 0x1000))


def symbol(name, address):
    return struct.pack("<IBBHQQ", name, 0x12, 0, 1, address, 16)


def section(name, kind, offset, size):
    return struct.pack("<IIQQQQIIQQ", name, kind, 2, 0, offset, size, 0, 0, 1, 0)


def swap(folder, victim, offset):
    """A library that becomes a link to `victim` when it is opened for the second time."""
    path = folder + "/libssl.so.1"
    library(path, code_at=int(offset))
    execute(path)
    os.symlink(victim, folder + "/link")
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init()
    libc.inotify_add_watch(watch, path.encode(), 0x20)
    ready()
    opened = 0
    while opened < 2:
        if sys.stdin in select.select([watch, sys.stdin], [], [])[0]:
            return
        opened += len(os.read(watch, 4096)) // 16
    os.rename(folder + "/link", path)


def slow(folder):
    """A library of 3 MB that takes minutes to read, unless somebody sees to it."""
    path = folder + "/libssl.so.evil"
    library(path, symbols=80_000, names=b"A" * 1_000_000)
    execute(path)
    ready()


def sparse(folder):
    """A library of a tebibyte that takes no room, and claims it all as names."""
    path = folder + "/libssl.so.evil"
    library(path)
    with open(path, "r+b") as file:
        file.seek(0x28)
        at = struct.unpack("<Q", file.read(8))[0]
        file.truncate(1 << 40)
        file.seek(at + 2 * 64 + 32)
        file.write(struct.pack("<Q", (1 << 40) - 4096))
    execute(path)
    ready()


def pipe(folder):
    """A library whose name, as the kernel writes it, is that of a named pipe."""
    os.mkdir(folder + "/a\nb")
    library(folder + "/a\nb/libssl.so")
    execute(folder + "/a\nb/libssl.so")
    os.mkdir(folder + "/a\\012b")
    os.mkfifo(folder + "/a\\012b/libssl.so")
    ready()


def lock(folder):
    """Locks what every capture used to wait for."""
    file = open("/sys/kernel/rcu_expedited")
    KEPT.append(file)
    fcntl.flock(file, fcntl.LOCK_EX)
    ready()


def copies(folder, original, number):
    """Many copies of a library, each as good as any."""
    for copy in range(int(number)):
        path = f"{folder}/libssl-{copy}.so.3"
        shutil.copy(original, path)
        execute(path)
    ready()


def latin(folder, port):
    """A program that has mapped a file whose name is no text, and then loads a TLS library."""
    path = folder.encode() + b"/caf\xe9.dat"
    with open(path, "wb") as file:
        file.write(b"\0" * 4096)
    execute(path)
    ready()
    sys.stdin.readline()
    import http.client
    import ssl

    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=context)
    connection.request("GET", "/hello.json")
    connection.getresponse().read()
    print("done", flush=True)


def ready():
    print("ready", flush=True)


globals()[sys.argv[1]](*sys.argv[2:])
sys.stdin.read()
