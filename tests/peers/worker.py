"""Runs inside a peer's environment: converts the model for it, or does one work and prints one line of JSON.

usage: worker.py convert ADAPTER WEIGHTS TARGET DTYPE
       worker.py measure ADAPTER TARGET DTYPE THREADS WORK
"""

import importlib
import json
import statistics
import sys
import time
from pathlib import Path

from adapters import Refused
from work import Work, work_named

# No repeat is begun after so many seconds.
PATIENCE = 30


def main(command: str, adapter: str, *rest: str) -> None:
    peer = importlib.import_module(f"adapters.{adapter}")
    try:
        if command == "convert":
            folder, target, dtype = rest
            peer.convert(Path(folder), Path(target), dtype)
            say({})
        else:
            target, dtype, threads, name = rest
            measure(peer, Path(target), dtype, int(threads), work_named(name))
    except Refused as refusal:
        say({"refused": str(refusal)})


def say(line: dict) -> None:
    # Libraries print to stdout as well: the driver looks for this mark.
    print("\n@" + json.dumps(line), flush=True)


def measure(peer, target: Path, dtype: str, threads: int, work: Work) -> None:
    model = peer.Model(target, dtype, threads, work.tokens_max, work.batch)
    if work.kind in ("check", "cold"):
        say({"ids": [new[0] for new in model.generate(work.prompts(), work.new, tick=lambda: None)]})
        return
    if work.repeats > 1:
        timed(model, work)
    begin, rates = time.perf_counter(), []
    while len(rates) < work.repeats and (not rates or time.perf_counter() - begin < PATIENCE):
        rates.append(timed(model, work))
    say({"tokens_per_s": statistics.median(rates), "repeats": rates})


def timed(model, work: Work) -> float:
    """Tokens per second: of the prompt, or of the new ones after the first, all sequences together."""
    ticks = [time.perf_counter()]
    model.generate(work.prompts(), work.new, lambda: ticks.append(time.perf_counter()))
    if work.kind == "prefill":
        return work.batch * work.prompt / (ticks[1] - ticks[0])
    return work.batch * (work.new - 1) / (ticks[work.new] - ticks[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
