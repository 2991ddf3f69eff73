"""From a folder to programs that can be measured: environments, weights, and what each program makes of them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import bloomery
import weights
from install import NotInstalled, install, version
from layout import Layout, once
from process import Failed, Program

WORKER = Path(__file__).resolve().with_name("worker.py")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def installed(names: list[str], layout: Layout, absent: dict[str, str]) -> dict:
    """The adapters of the peers that can be used, by name."""
    peers = {}
    for name in names:
        peer = importlib.import_module(f"adapters.{name}")
        try:
            for needed in dict.fromkeys((getattr(peer, "CONVERTS_IN", name), name)):
                install(importlib.import_module(f"adapters.{needed}"), needed, layout)
            peers[name] = peer
        except NotInstalled as why:
            absent[peer.NAME] = str(why)
            say(f"{peer.NAME}: {why}")
    return peers


def prepared(options, peers: dict, layout: Layout, absent: dict[str, str]) -> dict[str, list[Program]]:
    """For each type of weights bloomery, and after it the peers that have it."""
    programs = {}
    for dtype in options.dtypes:
        write_weights(dtype, layout)
        programs[dtype] = [ours(options, dtype, layout)]
        for name, peer in peers.items():
            if dtype not in peer.DTYPES:
                continue
            try:
                programs[dtype].append(theirs(options, name, peer, dtype, layout))
            except Failed as why:
                absent[f"{peer.NAME} {dtype}"] = str(why)
                say(f"{peer.NAME} {dtype}: {why}")
    return programs


def write_weights(dtype: str, layout: Layout) -> None:
    def make(partial: Path) -> dict:
        say(f"write random {dtype} weights")
        weights.write(partial, dtype)
        return {}

    once(layout.weights(dtype), {"weights": weights.fingerprint(dtype)}, make)


def ours(options, dtype: str, layout: Layout) -> Program:
    binary, target = options.bloomery.resolve(), layout.model("bloomery", dtype)
    computing = ["--compute", "bf16"] if (dtype, options.compute) == ("bf16", "bf16") else []
    build = " ".join([bloomery.version(binary), *computing])

    def make(partial: Path) -> dict:
        say(f"compile {dtype}")
        command = bloomery.compile_command(binary, layout.weights(dtype), partial, weights.CONTEXT, computing)
        return run_logged(command, {}, layout)

    once(target, {"version": build, "weights": weights.fingerprint(dtype)}, make)
    call = lambda work: bloomery.command(binary, target, options.threads, work)
    return Program(bloomery.NAME, build, call, bloomery.figures, {}, target)


def theirs(options, name: str, peer, dtype: str, layout: Layout) -> Program:
    target, build = layout.model(name, dtype), version(peer, layout.packages(name))

    def make(partial: Path) -> dict:
        say(f"convert {dtype} for {peer.NAME}")
        converter = layout.python(getattr(peer, "CONVERTS_IN", name))
        command = [converter, WORKER, "convert", name, layout.weights(dtype), partial, dtype]
        return run_logged(command, {"PYTHONPATH": str(layout.packages(name))}, layout)

    said = once(target, {"version": build, "weights": weights.fingerprint(dtype)}, make)
    if "refused" in said:
        raise Failed(said["refused"])
    call = lambda work: [layout.python(name), WORKER, "measure", name, target, dtype, options.threads, work.name]
    return Program(peer.NAME, build, call, lambda printed, work: printed, environment(peer, options.threads), target)


def environment(peer, threads: int) -> dict[str, str]:
    """The peer's variables, with as many processors as there are threads, for those that pin them."""
    processors = " ".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    return {key: value.format(threads=threads, processors=processors) for key, value in peer.ENVIRONMENT.items()}


def run_logged(command: list, variables: dict[str, str], layout: Layout) -> dict:
    """What a command says in a worker's line of JSON; everything else that it prints goes to the log."""
    parts = [str(part) for part in command]
    with open(layout.log, "a") as log:
        run = subprocess.run(parts, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | variables)
        log.write(run.stdout)
    if run.returncode != 0:
        name = " ".join(Path(part).name for part in parts[:4])
        raise Failed(f"{name} ended with {run.returncode}, see {layout.log.name}")
    lines = [line for line in run.stdout.splitlines() if line.startswith("@{")]
    return json.loads(lines[-1][1:]) if lines else {}
