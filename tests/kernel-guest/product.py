"""The built program as a process: starts it, waits for what it says, reads what it printed.

The words that are waited for are the user's to read and may change: all of them are here.
"""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

CAPTURING = "capturing"
NOTHING_LOST = "nothing was lost"
ATTACHED = "attached to"
# Name of the process that removes the probes after the program has ended.
DETACHING = "ecapture-detach"
# Exit code of --fail-on-loss.
LOSS = 3
# How long anything may take before it counts as hung, in seconds: an emulated machine on a busy host is slow.
PATIENCE = float(os.environ.get("ECAPTURE_PATIENCE", "240"))


class Failure(Exception):
    """A check that does not hold, with the reason in one line."""


def expect(holds, reason):
    if not holds:
        raise Failure(reason)


class Finished:
    """A run that has ended."""

    def __init__(self, code, stdout, stderr):
        self.code, self.stdout, self.stderr = code, stdout, stderr

    def lines(self):
        """The JSON lines of standard output, without facts about processes; those of `doctor` have no version."""
        lines = [json.loads(line) for line in self.stdout.splitlines()]
        return [line for line in lines if (line.get("v"), line["kind"]) != (1, "process")]

    def expect_code(self, code):
        expect(self.code == code, f"exit code {self.code} instead of {code}: {self.last_words()}")

    def expect_nothing_lost(self):
        expect(NOTHING_LOST in self.stderr, f"losses: {self.last_words()}")

    def last_words(self):
        """The last lines of standard error, in one line."""
        return " | ".join(self.stderr.strip().splitlines()[-3:])[-400:]


class Product:
    """The program under test."""

    def __init__(self, path):
        self.path = path

    def run(self, *arguments, environment=None):
        """Runs it to its end."""
        return self.start(*arguments, environment=environment).finish()

    def start(self, *arguments, environment=None):
        return Running([self.path, *map(str, arguments)], environment or {})

    def capture(self, *arguments, environment=None):
        """Starts it and waits until its probes are attached."""
        running = self.start(*arguments, environment=environment)
        running.wait_for(CAPTURING)
        return running


class Running:
    """A run in progress."""

    def __init__(self, command, environment):
        self.output = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self.errors = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read_errors(self):
        for line in self.child.stderr:
            self.errors.put(line.decode(errors="replace"))
        self.errors.put(None)

    def wait_for(self, text):
        """Waits for a line of standard error with `text`."""
        while True:
            line = self._next_line()
            if line is None:
                code = self.child.wait()
                raise Failure(f"ended with {code} before it said {text!r}: {self._last_words()}")
            if text in line:
                return line

    def _next_line(self):
        try:
            line = self.errors.get(timeout=PATIENCE)
        except queue.Empty:
            show_threads(self.child.pid)
            self.child.kill()
            raise Failure(f"said nothing for {PATIENCE:.0f} s after: {self._last_words()}") from None
        if line is not None:
            self.seen.append(line)
        return line

    def _last_words(self):
        return Finished(None, "", "".join(self.seen)).last_words()

    def interrupt(self):
        """Presses Ctrl-C and waits for the end."""
        self.child.send_signal(signal.SIGINT)
        return self.finish()

    def finish(self):
        while self._next_line() is not None:
            pass
        code = self.child.wait()
        self.output.seek(0)
        return Finished(code, self.output.read().decode(errors="replace"), "".join(self.seen))


def wait_until(condition, reason):
    """Polls until `condition` gives something, which it returns."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        expect(time.monotonic() < deadline, f"{reason}, after {PATIENCE:.0f} s")
        time.sleep(0.05)
    return found


def processes_named(name):
    """The ids of all processes with this name, zombies included."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/comm") as comm:
                if comm.read().rstrip("\n") == name:
                    found.append(int(entry))
        except OSError:
            pass
    return found


def show_threads(pid):
    """Prints what each thread of a process waits for in the kernel."""
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        for name in ["comm", "wchan", "stack"]:
            try:
                print(f"{task.name} {name}: {(task / name).read_text().strip()}", flush=True)
            except OSError as problem:
                print(f"{task.name} {name}: {problem}", flush=True)


def wait_until_detached():
    wait_until(lambda: not processes_named(DETACHING), f"{DETACHING} is still there")
