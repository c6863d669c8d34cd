"""Put on PYTHONPATH, it counts every moment at which a process changes something, and kills it with SIGKILL at the one that is named.

KILL_AT   the number of that moment, from 1; none where it is 0
KILL_LOG  receives a line for each moment that was reached

Moments: every file below PLAN_HOME that is opened for writing, moved, removed or made a folder, every fsync, lock and process; every
statement that writes to SQLite, and the end of a transaction; every piece before and after it is sent to a server, and the first piece of
the reply. Between two of them nothing changes that outlives the process. The variables are taken out of the environment: what is started
from here runs undisturbed. Other threads do not count: they ask for prices before anything is launched, in an order that is chance.
"""

import os
import signal
import sys
import threading

_AT, _LOG = int(os.environ.pop("KILL_AT", "-1")), os.environ.pop("KILL_LOG", "")
_FILES, _OTHERS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir"), ("fcntl.flock", "subprocess.Popen")
_TO_WRITE = os.O_WRONLY | os.O_RDWR
_WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "CREATE", "COMMIT", "ROLLBACK", "PRAGMA USER_VERSION =", "PRAGMA JOURNAL_MODE")


def _install() -> None:
    import socket
    import sqlite3
    import subprocess

    log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    home, reached, asleep, last = os.environ["PLAN_HOME"], 0, False, ""

    def moment(what: str) -> None:
        nonlocal reached, asleep
        if asleep or threading.current_thread() is not threading.main_thread():
            return
        asleep = True
        reached += 1
        os.write(log, f"{reached} {what}\n".encode())
        if reached == _AT:
            os.kill(os.getpid(), signal.SIGKILL)
        asleep = False

    def audited(event: str, arguments: tuple) -> None:
        if event in _OTHERS or home in str(arguments[:1]) and (event in _FILES or event == "open" and arguments[2] & _TO_WRITE):
            moment(f"{event} {str(arguments[0])[-40:]}")

    def around(owner: object, name: str, *, before: bool, after: bool, first: bool = False) -> None:
        """`first`: of several calls in a row only one counts; how many pieces a reply comes in is chance."""
        real = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            nonlocal last
            if threading.current_thread() is not threading.main_thread():
                return real(*arguments, **named)
            if before:
                moment(f"before {name}")
            out = real(*arguments, **named)
            if after and not (first and last == name):
                moment(f"after {name}")
            last = name
            return out

        setattr(owner, name, call)

    class Counting(sqlite3.Connection):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)
            self.set_trace_callback(lambda text: _writing(text) and moment(f"before {text[:40]!r}"))

        def execute(self, text: str, *values: object) -> sqlite3.Cursor:
            out = super().execute(text, *values)
            if text.startswith("COMMIT"):
                moment(f"after {text[:40]!r}")
            return out

        def executescript(self, text: str) -> sqlite3.Cursor:
            out = super().executescript(text)
            moment("after a script")
            return out

    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **named: connect(*arguments, **{"factory": Counting, **named})
    for name in ("send", "sendall"):
        around(socket.socket, name, before=True, after=True)
    for name in ("recv", "recv_into"):
        around(socket.socket, name, before=False, after=True, first=True)
    around(os, "fsync", before=True, after=False)
    around(subprocess.Popen, "communicate", before=True, after=False)
    sys.addaudithook(audited)


def _writing(text: str) -> bool:
    return text.lstrip().upper().startswith(_WRITES)


if _LOG:
    _install()
