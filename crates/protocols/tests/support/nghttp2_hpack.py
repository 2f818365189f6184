"""Header blocks through nghttp2's HPACK coder, by way of its shared library.

  nghttp2_hpack.py deflate SEED COUNT   makes COUNT blocks of one connection from random fields
  nghttp2_hpack.py inflate              reads one block in hex per line

Both print one line per block: the block in hex, then a tab and NAME=VALUE in hex per field. An empty
list of fields after "!" says that nghttp2 refused the block.
"""

import ctypes
import random
import sys

try:
    nghttp2 = ctypes.CDLL("libnghttp2.so.14")
except OSError:
    sys.exit(3)


class Field(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.POINTER(ctypes.c_uint8)),
        ("value", ctypes.POINTER(ctypes.c_uint8)),
        ("name_length", ctypes.c_size_t),
        ("value_length", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    ]


nghttp2.nghttp2_hd_deflate_hd.restype = ctypes.c_ssize_t
nghttp2.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t

NAMES = [b":method", b":path", b":status", b":authority", b"cookie", b"user-agent", b"x-request-id",
         b"etag", b"date", b"content-type", b"set-cookie", b"authorization", b"accept", b"x-a", b"x-b"]
VALUES = [b"GET", b"/", b"200", b"gzip, deflate", b"*/*", b"", b"a" * 200, bytes(range(32, 127))]


def pointer(text):
    return ctypes.cast(ctypes.create_string_buffer(text, len(text) + 1), ctypes.POINTER(ctypes.c_uint8))


def some_text(chance):
    if chance.random() < 0.6:
        return chance.choice(VALUES)
    if chance.random() < 0.1:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
    return b"%d" % chance.randrange(10 ** chance.randrange(1, 12))


def line(block, fields):
    return block.hex() + "".join("\t%s=%s" % (n.hex(), v.hex()) for n, v in fields)


def deflate(seed, count):
    chance = random.Random(seed)
    deflater = ctypes.c_void_p()
    assert nghttp2.nghttp2_hd_deflate_new(ctypes.byref(deflater), ctypes.c_size_t(4096)) == 0
    buffer = ctypes.create_string_buffer(1 << 16)
    for _ in range(count):
        if chance.random() < 0.02:
            size = ctypes.c_size_t(chance.choice([0, 100, 256, 1000, 4096]))
            assert nghttp2.nghttp2_hd_deflate_change_table_size(deflater, size) == 0
        fields = [(chance.choice(NAMES), some_text(chance)) for _ in range(chance.randrange(1, 12))]
        listed = (Field * len(fields))()
        for slot, (name, value) in zip(listed, fields):
            slot.name, slot.value = pointer(name), pointer(value)
            slot.name_length, slot.value_length = len(name), len(value)
            slot.flags = 1 if chance.random() < 0.05 else 0
        written = nghttp2.nghttp2_hd_deflate_hd(deflater, buffer, ctypes.c_size_t(len(buffer)), listed,
                                                ctypes.c_size_t(len(fields)))
        assert written >= 0, written
        print(line(buffer.raw[:written], fields))


def inflate(lines):
    inflater = ctypes.c_void_p()
    assert nghttp2.nghttp2_hd_inflate_new(ctypes.byref(inflater)) == 0
    for text in lines:
        block = bytes.fromhex(text.strip())
        rest, fields, refused = block, [], False
        while True:
            field, flags = Field(), ctypes.c_int(0)
            used = nghttp2.nghttp2_hd_inflate_hd2(inflater, ctypes.byref(field), ctypes.byref(flags), rest,
                                                  ctypes.c_size_t(len(rest)), 1)
            if used < 0:
                refused = True
                break
            rest = rest[used:]
            if flags.value & 2:
                fields.append((ctypes.string_at(field.name, field.name_length),
                               ctypes.string_at(field.value, field.value_length)))
            if flags.value & 1:
                nghttp2.nghttp2_hd_inflate_end_headers(inflater)
                break
            if not flags.value & 2 and not rest:
                break
        print(block.hex() + "\t!" if refused else line(block, fields))


if sys.argv[1] == "deflate":
    deflate(int(sys.argv[2]), int(sys.argv[3]))
else:
    inflate(sys.stdin)
