"""Executes prepared statements of MariaDB in ways that its own client does not.

    mariadb_prepared.py ADDRESS PORT

Needs a table shop.t(a int primary key).
"""

import struct
import sys

from sql_load import MySql

CURSOR = 1


def execute(server, statement, rest, flags=0):
    server.command(23, struct.pack("<IBI", statement, flags, 1) + rest)


def main():
    server = MySql(*sys.argv[1:3])

    # NULL, an integer without a sign, a double, a date with its time, and bytes that are no text.
    statement = server.prepare(b"select ?, ?, ?, ?, ? union select 1, 2, 3, 4, 5")
    types = bytes([253, 0, 8, 0x80, 5, 0, 12, 0, 252, 0])
    values = struct.pack("<Qd", 2**64 - 1, 0.5) + bytes([7, 0xE8, 0x07, 2, 29, 23, 59, 58]) + b"\x03a\xff\0"
    execute(server, statement, b"\x01\x01" + types + values)
    server.answer()

    # A value that is sent apart, and one that is not.
    statement = server.prepare(b"select /* apart */ ?, ?")
    for part in (b"xx", b"yy"):
        server.command(24, struct.pack("<IH", statement, 0) + part)
    execute(server, statement, b"\x00\x01" + bytes([252, 0, 1, 0]) + b"\x05")
    server.answer()
    execute(server, statement, b"\x00\x00" + b"\x01z\x05")
    server.answer()

    # Rows that are fetched later.
    statement = server.prepare(b"select /* cursor */ 1 union select 2")
    execute(server, statement, b"", CURSOR)
    columns = server.packet()[0]
    for _ in range(columns + 1):
        server.packet()
    server.command(28, struct.pack("<II", statement, 10))
    while server.packet()[0] != 0xFE:
        pass

    # Several rows of values.
    statement = server.prepare(b"insert into shop.t values (?)")
    rows = b"".join(b"\0" + struct.pack("<i", 1000 + row) for row in range(3))
    server.command(250, struct.pack("<IH", statement, 128) + bytes([3, 0]) + rows)
    server.answer()
    server.close()


main()
