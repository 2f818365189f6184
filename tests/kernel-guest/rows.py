"""The rows of the table: what each check came to, written down at once, so that a crash leaves what was known."""

import contextlib
import json
import sys
import time
import traceback

from product import Failure

OK = "ok"


class Rows:
    """Writes one JSON line for each row: `row`, `result` ("ok" or "no: reason"), `seconds`."""

    def __init__(self, file):
        self.file = file
        self.written = set()

    @contextlib.contextmanager
    def row(self, name):
        """Runs the checks of one row; what they raise becomes its result."""
        began = time.monotonic()
        result = OK
        try:
            yield
        except Exception as problem:
            result = f"no: {reason(problem)}"
        self.write(name, result, time.monotonic() - began)

    @contextlib.contextmanager
    def group(self, *names):
        """Runs something that several rows need; those it did not come to have its failure as their result."""
        began = time.monotonic()
        problem = None
        try:
            yield
        except Exception as raised:
            problem = reason(raised)
        for name in names:
            if name not in self.written:
                self.write(name, f"no: {problem or 'not reached'}", time.monotonic() - began)

    def write(self, name, result, seconds):
        if name in self.written:
            raise KeyError(f"row {name!r} is written twice")
        self.written.add(name)
        line = {"row": name, "result": result, "seconds": round(seconds, 1)}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        print(f"{seconds:7.1f} s  {name}: {result}", flush=True)


def reason(problem):
    """A problem in one line; what is not a failed check is a fault of the script and is also shown in full."""
    if isinstance(problem, Failure):
        return " ".join(str(problem).split())
    traceback.print_exception(type(problem), problem, problem.__traceback__, file=sys.stdout)
    return f"{type(problem).__name__}: {problem}"
