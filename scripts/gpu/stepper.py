# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs steps one after the other, each in a process group of its own with a time limit of its own.

A record of each is printed and written as one line of JSON as soon as it ends, so that a step that fails,
hangs or loses the device takes nothing else with it.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Of the log, which goes where few bytes may, and of what one step adds to it.
MOST_LOGGED = 14 << 20
MOST_OF_A_STEP = 1 << 20
# Characters of its output that the record of a step that failed keeps.
TAIL = 4000
# With less than this left, nothing begins.
LEAST_SECONDS = 3.0
# Shares of the budget when parts that have many steps end, so that those behind them have time too.
ENDS = {"tests": 0.45, "self-test": 0.6, "sanitizer": 0.7, "bench": 0.93}


@dataclass
class Step:
    """What is run: `part/name`, of which `part` is one of the ten that a caller chooses from."""

    name: str
    command: list
    limit: float
    env: dict = field(default_factory=dict)
    # What the record keeps of the output.
    parse: Callable[[str], object] | None = None
    # Why a failure is none, by the output: something that this machine does not have.
    excuse: Callable[[str], str | None] | None = None


class Stepper:
    """Runs steps until the budget is spent."""

    def __init__(self, out: Path, budget: float, parts: list[str], env: dict, timed: bool):
        out.mkdir(parents=True, exist_ok=True)
        self.start = time.monotonic()
        self.budget, self.parts, self.env, self.timed = budget, parts, env, timed
        self.records: list[dict] = []
        self.lines = (out / "steps.jsonl").open("w")
        self.log = (out / "log.txt").open("wb")

    def wants(self, name: str) -> bool:
        """Whether the part that a step belongs to was chosen."""
        return not self.parts or name.split("/")[0] in self.parts

    def left(self, name: str) -> float:
        """Seconds of the budget that a step's part still has; a part that is run alone has all of it."""
        part = name.split("/")[0]
        share = 1.0 if self.parts == [part] else ENDS.get(part, 1.0)
        return share * self.budget - (time.monotonic() - self.start)

    def run(self, step: Step) -> dict | None:
        """Runs a step, and returns its record; None if its part was not chosen."""
        if not self.wants(step.name):
            return None
        program = str(step.command[0])
        if self.left(step.name) < LEAST_SECONDS:
            return self.leave_out(step.name, "no time", counts=True)
        if shutil.which(program) is None:
            return self.leave_out(step.name, f"there is no {Path(program).name}")
        record = {"step": step.name, "at": self.now()}
        begin = time.monotonic()
        code, text = self.outcome(step)
        record["seconds"] = round(time.monotonic() - begin, 2)
        record["rc"] = code
        why = step.excuse(text) if code not in (0, None) and step.excuse else None
        if code == 0:
            record["result"] = "ok"
        elif why:
            record.update(result="left out", why=why, counts=False)
        else:
            record["result"] = "timed out" if code is None else "failed"
            record["tail"] = text[-TAIL:]
        if step.parse and code == 0:
            try:
                record["data"] = step.parse(text)
            except Exception as error:  # what a step prints is not trusted
                record.update(result="failed", tail=text[-TAIL:], why=f"not understood: {error!r}")
        self.keep(text, record)
        return self.note(record)

    def outcome(self, step: Step) -> tuple[int | None, str]:
        """The exit code, None where time ran out, and what was printed."""
        # A file: whoever inherits a pipe could keep it open.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [str(word) for word in step.command],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**self.env, **step.env},
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=max(min(step.limit, self.left(step.name)), 0.1))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                kill_group(process.pid)
                process.wait()
            end = output.seek(0, os.SEEK_END)
            output.seek(max(0, end - MOST_OF_A_STEP))
            return code, output.read().decode(errors="replace")

    def compare(self, name: str, first: Path, second: Path) -> None:
        """A step of this process: whether two files hold the same bytes."""
        if not self.wants(name):
            return
        record = {"step": name, "at": self.now()}
        missing = [path for path in (first, second) if not path.is_file()]
        if missing:
            record.update(result="failed", tail=f"{missing[0]} was not written")
        elif first.read_bytes() == second.read_bytes():
            record["result"] = "ok"
        else:
            record.update(result="failed", tail=f"{first} and {second} differ")
        self.note(record)

    def leave_out(self, name: str, why: str, counts: bool = False) -> dict | None:
        """Notes that a step is not run; `counts` if that makes the whole run a failure."""
        if not self.wants(name):
            return None
        return self.note({"step": name, "at": self.now(), "result": "left out", "why": why, "counts": counts})

    def passed(self) -> bool:
        """Whether every step that could run here did, and none failed."""
        bad = [r for r in self.records if r["result"] in ("failed", "timed out") or r.get("counts")]
        return bool(self.records) and not bad

    def now(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self.start, 1)

    def keep(self, text: str, record: dict) -> None:
        """Adds a step's output to the log, as long as there is room."""
        head = f"\n== {record['step']}: {record['result']}\n".encode()
        room = MOST_LOGGED - self.log.tell() - len(head)
        if room > 0:
            self.log.write(head + text.encode()[-room:])
            self.log.flush()

    def note(self, record: dict) -> dict:
        """Prints and writes a record. What took how long on a simulated device is nobody's business."""
        if not self.timed:
            record.pop("seconds", None)
            record.pop("at", None)
        self.records.append(record)
        self.lines.write(json.dumps(record) + "\n")
        self.lines.flush()
        print(json.dumps({key: record[key] for key in record if key not in ("data", "tail")}), flush=True)
        return record


def kill_group(leader: int) -> None:
    """Ends what is left of a process group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
