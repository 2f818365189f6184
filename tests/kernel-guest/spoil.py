#!/usr/bin/env python3
"""Makes programs of a copy of the kernel object invalid, so that every kernel's verifier refuses them.

Usage: spoil.py OBJECT COPY [PROGRAM…]   Without PROGRAM it is all of them.

A program's first instruction that is not relocated becomes `r0 = *(u64 *)(r10 + 8)`, which reads outside of the
stack ("invalid read from stack"). ELF: the System V ABI, "Object Files"; instructions: the kernel's
Documentation/bpf/standardization/instruction-set.rst.
"""

import struct
import sys

SYMBOL_TABLE, RELOCATIONS = 2, 9
# STB_GLOBAL, STT_FUNC; STV_DEFAULT.
GLOBAL_FUNCTION, DEFAULT_VISIBILITY = 0x12, 0
INSTRUCTION = 8
# BPF_LDX | BPF_MEM | BPF_DW, destination r0, source r10, offset 8.
INVALID = struct.pack("<BBhi", 0x79, 0xA0, 8, 0)
# BPF_LD | BPF_IMM | BPF_DW takes two places.
LOAD_64 = 0x18


def main():
    source, copy, *names = sys.argv[1:]
    with open(source, "rb") as file:
        image = bytearray(file.read())
    sections = read_sections(image)
    programs = read_programs(image, sections)
    unknown = set(names) - set(programs)
    if unknown:
        sys.exit(f"{source} has no program {', '.join(unknown)}")
    for name in names or programs:
        spoil(image, sections, *programs[name])
    with open(copy, "wb") as file:
        file.write(image)


def spoil(image, sections, section, start, length):
    relocated = relocated_offsets(image, sections, section)
    base = sections[section]["offset"]
    for offset in range(start, start + length, INSTRUCTION):
        if offset not in relocated and image[base + offset] != LOAD_64:
            image[base + offset : base + offset + INSTRUCTION] = INVALID
            return


def read_sections(image):
    table, size, count = *struct.unpack_from("<Q", image, 40), *struct.unpack_from("<HH", image, 58)
    keys = ["name", "type", "flags", "address", "offset", "size", "link", "info", "align", "entry"]
    return [dict(zip(keys, struct.unpack_from("<IIQQQQIIQQ", image, table + size * index))) for index in range(count)]


def read_programs(image, sections):
    """Section, offset in it and length of each program, by name: the functions that are visible to other objects."""
    symbols = next(section for section in sections if section["type"] == SYMBOL_TABLE)
    strings = sections[symbols["link"]]["offset"]
    programs = {}
    for at in range(symbols["offset"], symbols["offset"] + symbols["size"], symbols["entry"]):
        text, info, other, section, value, size = struct.unpack_from("<IBBHQQ", image, at)
        if (info, other) == (GLOBAL_FUNCTION, DEFAULT_VISIBILITY):
            begin = strings + text
            programs[image[begin : image.index(0, begin)].decode()] = (section, value, size)
    return programs


def relocated_offsets(image, sections, section):
    """Where instructions are relocated, that is replaced when the object is loaded."""
    found = set()
    for table in sections:
        if table["type"] == RELOCATIONS and table["info"] == section:
            for at in range(table["offset"], table["offset"] + table["size"], table["entry"]):
                found.add(struct.unpack_from("<Q", image, at)[0])
    return found


main()
