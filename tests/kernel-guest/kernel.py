"""What the kernel has loaded, by bpf(2)."""

import ctypes
import os
import platform

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
