#!/usr/bin/env python3
"""Compares what each kernel did with what it should, and writes the table.

Usage: table.py RESULTS [--write FILE] KERNEL…

RESULTS has a folder of run.py's results for each KERNEL. Exits with 1 when a row is not what is expected of it.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

OK = "ok"
SAME = "the same lines as on other kernels"
NO_FAULT = "no fault in the kernel's own log"
FAULT = re.compile(r"BUG:|Oops|WARNING:|general protection|Call Trace|blocked for more than")
# How many lines are shown of a machine that did not reach the end.
LAST_LINES = 40

# Rows that a kernel series cannot have: what it lacks, and what the row must say instead. Everything else must be ok.
CANNOT = {
    ("5.10", "a call above 1 MiB"): (
        "no bpf_loop before Linux 5.17; what is beyond 1 MiB of a call is counted (call_too_long)",
        " kernel call_too_long: 0 events, 524288 bytes",
    ),
    **{
        ("5.10", f"ecapture {shell}: exit statuses"): (
            "no cookies of probes before Linux 5.15, which tell where a shell keeps its variables",
            "they are [None, None, None]",
        )
        for shell in ["bash", "zsh"]
    },
    **{
        ("5.10", row): ("no bpf_loop before Linux 5.17, which the programs of databases need", "this kernel has no bpf_loop")
        for row in ["the programs of mysqld", "the programs of postgres", "watch tls bash zsh mysqld postgres"]
    },
    ("5.10", "the programs of packets"): (
        "no bpf_get_socket_cookie for tracepoints before Linux 5.12; packets are captured without the process that "
        "opened their connection",
        "unknown func bpf_get_socket_cookie",
    ),
    ("5.10", "--privacy metadata: no content leaves the kernel"): (
        "no bpf_loop before Linux 5.17; bodies are read, counted and overwritten, as the log says at its beginning",
        "nothing was left out: bodies are read, counted and overwritten, because the kernel cannot leave them out before "
        "Linux 5.17",
    ),
    ("host", NO_FAULT): ("not looked at: a machine in use has other faults in it", "no: not run"),
}


class Kernel:
    """The results of one kernel."""

    def __init__(self, name, folder):
        self.name = name
        self.release, _, self.machine = read(folder / "kernel").strip().partition(" ")
        rows = [json.loads(line) for line in read(folder / "rows.jsonl").splitlines()]
        self.rows = {row["row"]: row["result"] for row in rows}
        self.programs = {program["name"]: program for program in json.loads(read(folder / "programs.json") or "[]")}
        # How many the verifier processed of each program that leaves content out, in ascending order.
        self.instructions = json.loads(read(folder / "content-programs.json") or "[]")
        self.same = read(folder / "same")
        self.folder = folder
        self.ended = (folder / "ended").exists()
        if (folder / "dmesg").exists():
            faults = [line for line in read(folder / "dmesg").splitlines() if FAULT.search(line)]
            self.rows[NO_FAULT] = f"no: {faults[0]}" if faults else OK

    def last_words(self):
        """The ends of what the checks and the machine itself printed: why a machine stopped is nowhere else."""
        for name in ["log", "console"]:
            for line in read(self.folder / name).splitlines()[-LAST_LINES:]:
                yield f"{self.name}: {name}: {line}"


def read(file):
    return file.read_text(errors="replace") if file.exists() else ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("kernels", nargs="+")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    kernels = [Kernel(name, arguments.results / name) for name in arguments.kernels]
    compare_lines(kernels)
    names = list(dict.fromkeys(name for kernel in kernels for name in kernel.rows))
    problems = [problem for kernel in kernels for problem in problems_of(kernel, names)]
    text = table(kernels, names)
    print(text)
    if arguments.write:
        arguments.write.write_text(text)
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


def compare_lines(kernels):
    """All kernels must have printed the same; each is compared with the first that printed anything."""
    first = next((kernel for kernel in kernels if kernel.same), None)
    for kernel in kernels:
        if kernel.rows.get(SAME) == OK and kernel.same != first.same:
            lines = difflib.unified_diff(first.same.splitlines(), kernel.same.splitlines(), lineterm="", n=0)
            changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            print(f"== {kernel.name} differs from {first.name} in {len(changed)} lines", *changed[:6], sep="\n")
            kernel.rows[SAME] = f"no: {len(changed)} lines differ from {first.name}'s"


def problems_of(kernel, names):
    if not kernel.ended:
        missing = [name for name in names if name not in kernel.rows]
        yield f"{kernel.name}: the checks did not reach their end; not run: {'; '.join(missing)}"
        yield from kernel.last_words()
        names = [name for name in names if name in kernel.rows]
    for name in names:
        result = kernel.rows.get(name, "no: not run")
        _, instead = CANNOT.get((kernel.name, name), (None, OK))
        if instead not in result:
            yield f"{kernel.name}: {name}: {result} (expected: {instead.strip()})"


def table(kernels, names):
    head = "| | " + " | ".join(kernel.release for kernel in kernels) + " |"
    line = "|---|" + "---|" * len(kernels)
    parts = [
        "# What each kernel can do\n",
        "Written by `tests/kernels table`; every cell was run. `-` is what the kernel lacks, as said below the table.\n",
        head,
        line,
        *(f"| {name} | " + " | ".join(cell(kernel, name) for kernel in kernels) + " |" for name in names),
        "",
        *lacking(kernels),
        *program_table(kernels, head, line),
    ]
    return "\n".join(parts) + "\n"


def cell(kernel, name):
    return "-" if (kernel.name, name) in CANNOT else kernel.rows.get(name, "no: not run").replace("|", "/")


def lacking(kernels):
    shown = {kernel.name: kernel.release for kernel in kernels}
    for (kernel, name), (lacks, _) in CANNOT.items():
        if kernel in shown:
            yield f"- {shown[kernel]}: {name}: {lacks}."


def program_table(kernels, head, line):
    names = sorted({name for kernel in kernels for name in kernel.programs})
    if not names:
        return
    yield "\n## What the verifier makes of each program\n"
    yield "Instructions it processed (a kernel refuses a program at 1,000,000), and where the kernel says so, bytes of stack"
    yield "(at 512). `refused` costs what needs that program; of what is only `loaded`, `doctor` has no figures; `-` is not used"
    yield "on that kernel.\n"
    yield head
    yield line
    for name in names:
        yield f"| `{name}` | " + " | ".join(verified(kernel.programs.get(name)) for kernel in kernels) + " |"
    if any(kernel.instructions for kernel in kernels):
        largest = [f"{kernel.instructions[-1]:,}" if kernel.instructions else "-" for kernel in kernels]
        yield "| the largest at `--privacy metadata` | " + " | ".join(largest) + " |"


def verified(program):
    if program is None:
        return "-"
    if not program["ok"]:
        return "refused"
    count = program.get("instructions")
    if count is None:
        return "loaded"
    stack = program.get("stack")
    return f"{count:,}" + (f" / {stack}" if stack is not None else "")


main()
