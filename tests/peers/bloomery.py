"""bloomery itself, called as a user would call it."""

import hashlib
import subprocess
from pathlib import Path

from work import Work

NAME = "bloomery"


def version(binary: Path) -> str:
    """With a few digits that tell builds apart, so that figures of another build are not taken for this one's."""
    shown = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{shown} ({hashlib.sha256(binary.read_bytes()).hexdigest()[:10]})"


def compile_command(binary: Path, weights: Path, target: Path, tokens_max: int, options: list[str]) -> list:
    return [binary, "compile", weights, "-o", target / "model.bloom", "--max-context", tokens_max, *options]


def command(binary: Path, target: Path, threads: int, work: Work) -> list:
    artifact = target / "model.bloom"
    if work.kind in ("check", "cold"):
        prompts = [part for prompt in work.prompts() for part in ("--input-ids", ",".join(map(str, prompt)))]
        return [binary, "run", artifact, *prompts, "--max-new-tokens", work.new, "--threads", threads, "--json"]
    lengths = ("--prompt-tokens", work.prompt, "--new-tokens", work.new, "--batch", work.batch)
    return [binary, "bench", artifact, *lengths, "--repeats", work.repeats, "--threads", threads, "--json"]


def figures(printed: dict, work: Work) -> dict:
    """What its JSON says, in the words of `worker.py`."""
    if work.kind in ("check", "cold"):
        return {"ids": [sequence["ids"][0] for sequence in printed["sequences"]]}
    rate = f"{work.kind}_tokens_per_s"
    rates = {"tokens_per_s": printed[rate], "least": printed[f"{rate}_min"], "most": printed[f"{rate}_max"]}
    # The process's own peak holds what `bench` measures the machine with, too; this one was taken before.
    return rates | {"peak_rss_bytes": printed["peak_rss_bytes"]}
