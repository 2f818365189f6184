#!/usr/bin/env python3
"""Runs the product on the kernel that is running, and writes down what it can do there.

Usage: run.py --ecapture PROGRAM --prepared FOLDER --results FOLDER [--long] [--checks GROUP,…]

RESULTS gets `rows.jsonl` (a line for each row of the table), `kernel` (its release), `programs.json` (what `doctor`
says of each kernel program), `content-programs.json` (the verifier's instructions of those that leave content out),
`same` (the lines to compare with other kernels) and, last, `ended`. It exits with 0 whatever the rows say: what they
should say is tests/kernel-guest/table.py's.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from checks import GROUPS, Scene
from peers import Peers
from product import Product
from rows import Rows


def main():
    arguments = parse()
    results = Path(arguments.results)
    (results / "kernel").write_text(f"{os.uname().release} {os.uname().machine}\n")
    with open(results / "rows.jsonl", "w") as file:
        rows = Rows(file)
        for name in arguments.checks:
            run_group(name, rows, arguments)
    (results / "ended").touch()


def parse():
    parser = argparse.ArgumentParser()
    for name in ["ecapture", "prepared", "results"]:
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--checks", type=lambda text: text.split(","), default=list(GROUPS))
    arguments = parser.parse_args()
    unknown = set(arguments.checks) - set(GROUPS)
    if unknown:
        parser.error(f"no such checks: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    return arguments


def run_group(name, rows, arguments):
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ecapture-kernels-") as folder:
        peers = Peers(Path(folder), arguments.prepared)
        scene = Scene(Product(arguments.ecapture), rows, peers, arguments.results, arguments.long)
        try:
            GROUPS[name](scene)
        finally:
            peers.end()
    print(f"{time.monotonic() - began:7.1f} s  all of {name}", flush=True)


if __name__ == "__main__":
    main()
