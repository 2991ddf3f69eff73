"""One process a measurement, ours and a peer's in turn, and each pair written down at once."""

import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import report
from work import CHECK, TIMED, Work

# What a worker puts before its line of JSON, for libraries print to stdout as well.
MARK = b"@"


@dataclass(frozen=True)
class Program:
    """Something to measure: how to call it for a work, and how to read the JSON that it prints."""

    name: str
    version: str
    command: Callable[[Work], list]
    figures: Callable[[dict, Work], dict]
    environment: dict[str, str]
    model: Path


class Failed(Exception):
    """A measurement that came to nothing, and why."""


class Series:
    """The pairs of one machine, one number of threads and one build of each program, in a file that only grows."""

    def __init__(self, file: Path, about: dict, programs: dict[str, list[Program]]):
        self.file, self.about, self.programs = file, about, programs

    def measure(self, works: tuple[str, ...], rounds: int, seconds_max: float) -> None:
        """Every pair that is not there yet; what fails is not tried again before the next call."""
        done = {key_of(line) for line in self.pairs() if "failed" not in line}
        broken = set()
        for round, work, dtype, ours, peer in self.plan(works, rounds):
            line = {"peer": peer.name, "dtype": dtype, "work": work.name, "round": round}
            unusable = {(peer.name, dtype, CHECK.name), (peer.name, dtype, work.name)} & broken
            if key_of(line) in done or unusable:
                continue
            line |= self.about | {"versions": [ours.version, peer.version]} | pair(ours, peer, work, seconds_max)
            if "failed" in line:
                broken.add((peer.name, dtype, work.name))
            print(told(line, work), file=sys.stderr, flush=True)
            with open(self.file, "a") as file:
                file.write(json.dumps(line) + "\n")

    def plan(self, works: tuple[str, ...], rounds: int):
        """Round by round, so that an interrupted series has measured everything about equally often."""
        for round in range(rounds):
            for work in (CHECK, *TIMED):
                if round < work.rounds_max and (work is CHECK or work.name in works):
                    for dtype, (ours, *peers) in self.programs.items():
                        for peer in peers:
                            yield round, work, dtype, ours, peer

    def pairs(self) -> list[dict]:
        """Those that were measured; of a repeated one the last."""
        builds = {
            (peer.name, dtype): [ours.version, peer.version]
            for dtype, (ours, *peers) in self.programs.items()
            for peer in peers
        }
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        found = {}
        for line in map(json.loads, lines):
            fits = self.about.items() <= line.items() and builds.get((line["peer"], line["dtype"])) == line["versions"]
            if fits:
                found[key_of(line)] = line
        return list(found.values())


def key_of(line: dict) -> tuple:
    return line["peer"], line["dtype"], line["work"], line["round"]


def told(line: dict, work: Work) -> str:
    """A pair in one line, for whoever watches."""
    start = f"{line['round'] + 1}: {work.name}, {line['peer']} {line['dtype']}: "
    if "failed" in line:
        return start + line["failed"]
    if work is CHECK:
        same = report.common_prefix(line["ours"]["ids"], line["theirs"]["ids"])
        return start + f"{same} of {work.new} tokens are ours"
    ours, theirs = (report.figure(line[side], work.name) for side in ("ours", "theirs"))
    ratio = report.number(report.ratio(ours, theirs, work.name))
    return start + f"{ratio}x, ours {report.number(ours)}, theirs {report.number(theirs)}"


def pair(ours: Program, peer: Program, work: Work, seconds_max: float) -> dict:
    """Both measured, one after the other; a peer's failure is part of the result."""
    result = {"date": datetime.datetime.now().isoformat(timespec="seconds"), "load": os.getloadavg()[0]}
    result["ours"] = measured(ours, work, seconds_max)
    try:
        result["theirs"] = measured(peer, work, seconds_max)
    except Failed as failure:
        result["failed"] = str(failure)
    return result


def measured(program: Program, work: Work, seconds_max: float) -> dict:
    """Figures of one fresh process: what it says, the seconds until it said it, its peak of resident memory."""
    read_through(program.model)
    with tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in program.command(work)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | program.environment,
            start_new_session=True,
            preexec_fn=first_to_go,
        )
        watch = threading.Timer(seconds_max, lambda: os.killpg(process.pid, signal.SIGKILL))
        watch.start()
        printed, seconds = None, 0.0
        for line in process.stdout:
            if line.lstrip(MARK).startswith(b"{"):
                seconds, printed = time.monotonic() - begin, json.loads(line.lstrip(MARK))
        _, status, usage = os.wait4(process.pid, 0)
        watch.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == -signal.SIGKILL and time.monotonic() - begin >= seconds_max:
            raise Failed(f"not done after {seconds_max:.0f} s")
        if process.returncode != 0 or printed is None:
            errors.seek(0)
            raise Failed(reason(errors.read().decode(errors="replace"), process.returncode))
    if "refused" in printed:
        raise Failed(printed["refused"])
    return program.figures(printed, work) | {"seconds": seconds, "peak_rss_bytes": usage.ru_maxrss * 1024}


def read_through(folder: Path) -> None:
    """Puts the model's files into the page cache, where a second start finds them."""
    buffer = bytearray(1 << 24)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def first_to_go() -> None:
    """Where memory ends, this process shall be ended and no other."""
    Path("/proc/self/oom_score_adj").write_text("1000")


def reason(errors: str, code: int) -> str:
    """The last thing that a failed process said."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {lines[-1][:200]}" if lines else ended
