"""What the kernel has loaded, and what it shares with a capture."""

import contextlib
import ctypes
import os
import platform
from pathlib import Path

BPF_PROG_GET_NEXT_ID = 11
NUMBERS = {"x86_64": 321, "aarch64": 280}


class NextId(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint32), ("next", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


def loaded_programs():
    """The ids of all BPF programs."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS[platform.machine()]
    found = set()
    attribute = NextId()
    while libc.syscall(number, BPF_PROG_GET_NEXT_ID, ctypes.byref(attribute), ctypes.sizeof(attribute)) == 0:
        found.add(attribute.next)
        attribute.start = attribute.next
    problem = ctypes.get_errno()
    if problem != 2:  # ENOENT: that was the last one
        raise OSError(problem, f"BPF_PROG_GET_NEXT_ID: {os.strerror(problem)}")
    return found


def verified_instructions(pid):
    """How many instructions the verifier processed of each program that a process has loaded, in ascending order.

    Empty before Linux 5.16, which does not tell.
    """
    found = []
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        # A file that the process has closed since has no text.
        with contextlib.suppress(FileNotFoundError):
            lines = file.read_text().splitlines()
            found += [int(line.split()[1]) for line in lines if line.startswith("verified_insns:")]
    return sorted(found)


def rings_of(pid):
    """The bytes in the ring buffers that a process has mapped, with those that it has read already."""
    found = b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            if "bpf-map" in line:
                start, end = (int(place, 16) for place in line.split()[0].split("-"))
                memory.seek(start)
                found += memory.read(end - start)
    return found
