#!/usr/bin/env python3
"""Makes one program of a copy of the kernel object invalid, so that every kernel's verifier refuses it.

Usage: spoil.py OBJECT PROGRAM COPY

The program's first instruction that is not relocated becomes `r0 = *(u64 *)(r10 + 8)`, which reads outside of the
stack ("invalid read from stack"). ELF: the System V ABI, "Object Files"; instructions: the kernel's
Documentation/bpf/standardization/instruction-set.rst.
"""

import struct
import sys

SYMBOL_TABLE, RELOCATIONS = 2, 9
INSTRUCTION = 8
# BPF_LDX | BPF_MEM | BPF_DW, destination r0, source r10, offset 8.
INVALID = struct.pack("<BBhi", 0x79, 0xA0, 8, 0)
# BPF_LD | BPF_IMM | BPF_DW takes two places.
LOAD_64 = 0x18


def main():
    source, name, copy = sys.argv[1:]
    with open(source, "rb") as file:
        image = bytearray(file.read())
    sections = read_sections(image)
    section, start, length = find_function(image, sections, name)
    relocated = relocated_offsets(image, sections, section)
    base = sections[section]["offset"]
    for offset in range(start, start + length, INSTRUCTION):
        if offset not in relocated and image[base + offset] != LOAD_64:
            image[base + offset : base + offset + INSTRUCTION] = INVALID
            break
    with open(copy, "wb") as file:
        file.write(image)


def read_sections(image):
    table, size, count = *struct.unpack_from("<Q", image, 40), *struct.unpack_from("<HH", image, 58)
    keys = ["name", "type", "flags", "address", "offset", "size", "link", "info", "align", "entry"]
    return [dict(zip(keys, struct.unpack_from("<IIQQQQIIQQ", image, table + size * index))) for index in range(count)]


def find_function(image, sections, name):
    """Section, offset in it and length of a function."""
    symbols = next(section for section in sections if section["type"] == SYMBOL_TABLE)
    strings = sections[symbols["link"]]["offset"]
    for at in range(symbols["offset"], symbols["offset"] + symbols["size"], symbols["entry"]):
        text, _, _, section, value, size = struct.unpack_from("<IBBHQQ", image, at)
        begin = strings + text
        if image[begin : image.index(0, begin)] == name.encode():
            return section, value, size
    sys.exit(f"{sys.argv[1]} has no program {name}")


def relocated_offsets(image, sections, section):
    """Where instructions are relocated, that is replaced when the object is loaded."""
    found = set()
    for table in sections:
        if table["type"] == RELOCATIONS and table["info"] == section:
            for at in range(table["offset"], table["offset"] + table["size"], table["entry"]):
                found.add(struct.unpack_from("<Q", image, at)[0])
    return found


main()
