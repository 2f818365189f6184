"""Types into a shell on a terminal of its own. Standard input has one step in each line, a JSON array: the keys to
type, and the text to wait for in what the shell writes then; a step without keys only waits. Ctrl-C is typed once
the shell or its command sleeps: a signal that finds Readline at work has no effect before the next key. The process
id of the shell is printed first, how it ended last: its exit status, or minus the signal; minus SIGKILL for one that
had not closed its terminal after the last step. Usage: shell.py COMMAND…
"""
import json
import os
import pty
import select
import signal
import sys
import termios

PATIENCE = 60
# For all steps together; SIGALRM ends the driver then.
SECONDS_AT_MOST = 240
CTRL_C = b"\3"


def step(terminal, keys, expected):
    """Types, and reads until the text has come. The shell may write while it is typed to. Returns False when it has
    closed the terminal.
    """
    if keys == CTRL_C:
        while not sleeps(os.tcgetpgrp(terminal)):
            os.sched_yield()
    seen = b""
    while keys or expected not in seen:
        readable, writable, _ = select.select([terminal], [terminal] if keys else [], [], PATIENCE)
        if not readable and not writable:
            sys.exit(f"waited in vain for {expected!r}, saw {seen[-1000:]!r}")
        if readable:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                return False
        elif writable:
            # Little, so that writing does not wait.
            keys = keys[os.write(terminal, keys[:512]):]
    return True


def sleeps(process):
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


signal.alarm(SECONDS_AT_MOST)
child, terminal = pty.fork()
if child == 0:
    # A background job of a shell without job control ignores them, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    os.environ.update(PS1="READY> ", PS2="MORE> ", TERM="xterm", HISTFILE="/dev/null", SAVEHIST="0")
    os.execvp(sys.argv[1], sys.argv[1:])
# Else what a shell writes after a signal may be discarded with what it wrote before.
modes = termios.tcgetattr(terminal)
modes[3] |= termios.NOFLSH
termios.tcsetattr(terminal, termios.TCSANOW, modes)
print(child, flush=True)
# What is still written after the last prompt says nothing about its end, so only a closed terminal does.
if all(step(terminal, keys.encode(), expected.encode()) for keys, expected in map(json.loads, sys.stdin)):
    os.kill(child, signal.SIGKILL)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
