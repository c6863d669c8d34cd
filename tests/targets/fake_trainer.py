"""A trainer of a few lines: it prints what LeRobot prints, says when it runs, and ends when it is told to.

--started=FILE  one line with its pid is added for every start
--ready=FIFO    is opened for writing once the first lines are printed: who reads it waits for that
--gate=FIFO     is read before the rest is printed: who never writes keeps the trainer running
--exit=CODE --stubborn (ignores SIGTERM) --worker (a child in a session of its own, whose pid goes to FILE, too)
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

said = dict(token[2:].split("=", 1) for token in sys.argv[1:] if token.startswith("--") and "=" in token)
LINE = "INFO 2026-11-20 12:00:{0:02} ot_train.py:429 step:{0} smpl:{0} ep:0 epch:0.1 loss:2.5 grdn:9.1 lr:1.0e-05 updt_s:0.070 data_s:0.010"


def note(pid: int) -> None:
    with Path(said["started"]).open("a") as file:
        file.write(f"{pid}\n")


if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "started" in said:
    note(os.getpid())
if "--worker" in sys.argv:
    note(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
print("TOKEN", bool(os.environ.get("HF_TOKEN")), "PATH", os.environ["PATH"].split(os.pathsep)[0], flush=True)
for step in range(1, 4):
    print(LINE.format(step), file=sys.stderr)
if "ready" in said:
    Path(said["ready"]).write_text("ready")
if "gate" in said:
    Path(said["gate"]).read_text()
if "flood" in said:
    for _ in range(int(said["flood"])):
        print("x" * 1000, flush=True)
for step in range(4, 7):
    sys.stderr.write(f"\rTraining: {step}/6")
    print(LINE.format(step), file=sys.stderr)
sys.stderr.write("\nINFO End of training")
sys.exit(int(said.get("exit", "0")))
