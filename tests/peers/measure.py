"""bloomery and a peer in turn, pair after pair, each written down at once."""

import datetime
import json
import os
import sys
from pathlib import Path

import report
from process import Failed, Program, measured
from work import CHECK, TIMED, Work


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
        return start + f"{report.same(line)} of {work.batch} tokens are ours"
    ours, theirs = (report.figure(line[side], work.name) for side in ("ours", "theirs"))
    ratio = report.number(report.ratio(ours, theirs, work.name))
    return start + f"{ratio}x, ours {report.number(ours)}, theirs {report.number(theirs)}"


def pair(ours: Program, peer: Program, work: Work, seconds_max: float) -> dict:
    """Both measured, one after the other; a peer's failure is part of the result."""
    result = {"date": datetime.datetime.now().isoformat(timespec="seconds"), "load": os.getloadavg()[0]}
    try:
        result["ours"] = measured(ours, work, seconds_max)
    except Failed as failure:
        raise Failed(f"bloomery, {work.name}: {failure}") from failure
    try:
        result["theirs"] = measured(peer, work, seconds_max)
    except Failed as failure:
        result["failed"] = str(failure)
    return result
