"""One fresh process: what it says, how long that took, and the most memory that it had."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from work import Work

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


def measured(program: Program, work: Work, seconds_max: float) -> dict:
    """Figures of one process, the seconds from its start until it said them, and its peak of resident memory."""
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
        end = lambda: os.killpg(process.pid, signal.SIGKILL)
        watch = threading.Timer(seconds_max, end)
        watch.start()
        try:
            printed, seconds = answer(process.stdout, begin)
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            end()
            raise
        finally:
            watch.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == -signal.SIGKILL and time.monotonic() - begin >= seconds_max:
            raise Failed(f"not done after {seconds_max:.0f} s")
        if process.returncode != 0 or printed is None:
            errors.seek(0)
            raise Failed(reason(errors.read().decode(errors="replace"), process.returncode))
    if "refused" in printed:
        raise Failed(printed["refused"])
    return {"seconds": seconds, "peak_rss_bytes": usage.ru_maxrss * 1024} | program.figures(printed, work)


def answer(lines, begin: float) -> tuple[dict | None, float]:
    """The last line of JSON, and when it came; read to the end."""
    printed, seconds = None, 0.0
    for line in lines:
        if line.lstrip(MARK).startswith(b"{"):
            seconds, printed = time.monotonic() - begin, json.loads(line.lstrip(MARK))
    return printed, seconds


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
    """The last thing that a failed process said, without the folders of this machine."""
    lines = [re.sub(r"/\S*/", "", line).strip() for line in errors.splitlines() if line.strip()]
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{ended}: {lines[-1][:200]}" if lines else ended
