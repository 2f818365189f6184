"""Runs a command on a terminal of its own, with this program's standard error. SIGUSR2 sends it a SIGHUP as
kill(1) would; SIGUSR1 hangs the terminal up. Ends with the command's exit code. Usage: terminal.py COMMAND…
"""
import os
import pty
import signal
import sys

error = os.dup(2)
child, terminal = pty.fork()
if child == 0:
    os.dup2(error, 2)
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGUSR1, lambda *_: os.close(terminal))
signal.signal(signal.SIGUSR2, lambda *_: os.kill(child, signal.SIGHUP))
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
