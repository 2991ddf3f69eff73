"""From pairs to ratios: the maths, and the table that the README shows.

A ratio says how many times better bloomery is: more tokens in a second, fewer seconds to the first one, fewer bytes. It
is the median of the ratios of single pairs, whose two sides ran one after the other and saw the same neighbours.
"""

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from weights import DTYPES
from work import CHECK, MEMORY_OF, TIMED

MEMORY = "peak memory"
METRICS = (*(work.name for work in TIMED), MEMORY)
UNITS = {"cold start": "s", MEMORY: "GB"}
LESS_IS_BETTER = {"cold start", MEMORY}


@dataclass
class Report:
    """Everything that tables and plots show; keys are (program, dtype) and a metric."""

    ratios: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    figures: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    same_tokens: dict[tuple[str, str], int] = field(default_factory=dict)
    failures: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    rounds: int = 0


def report(pairs: list[dict]) -> Report:
    """Sums up the pairs of one machine and one build."""
    result, ratios, figures = Report(), defaultdict(list), defaultdict(list)
    for pair in pairs:
        peer, ours = (pair["peer"], pair["dtype"]), ("bloomery", pair["dtype"])
        if "failed" in pair:
            result.failures.setdefault(peer, {})[pair["work"]] = pair["failed"]
        elif pair["work"] == CHECK.name:
            result.same_tokens[peer] = same(pair)
        else:
            for metric in metrics_of(pair["work"]):
                mine, other = figure(pair["ours"], metric), figure(pair["theirs"], metric)
                figures[ours, metric].append(mine)
                figures[peer, metric].append(other)
                ratios[peer, metric].append(ratio(mine, other, metric))
    result.rounds = max(map(len, ratios.values()), default=0)
    for medians, values in ((result.ratios, ratios), (result.figures, figures)):
        for (program, metric), list_of in values.items():
            medians.setdefault(program, {})[metric] = statistics.median(list_of)
    return result


def metrics_of(work: str) -> tuple[str, ...]:
    return (work, MEMORY) if work == MEMORY_OF else (work,)


def figure(side: dict, metric: str) -> float:
    """Seconds, gigabytes or tokens per second."""
    if metric == MEMORY:
        return side["peak_rss_bytes"] / 1e9
    return side["seconds"] if metric == "cold start" else side["tokens_per_s"]


def ratio(ours: float, theirs: float, metric: str) -> float:
    return theirs / ours if metric in LESS_IS_BETTER else ours / theirs


def same(check: dict) -> int:
    """How many tokens of a check are the same."""
    return sum(ours == theirs for ours, theirs in zip(check["ours"]["ids"], check["theirs"]["ids"], strict=True))


BEGIN, END = "<!-- peers: written by tests/peers/run.py -->\n", "<!-- /peers -->\n"


def section(result: Report, peers: list[str], caption: str, absent: dict[str, str]) -> str:
    """What the README shows: what this is, the table, and what is missing."""
    lines = [f"On {caption}", ""]
    lines += [
        "A peer's cell says how many times better bloomery is, with the peer's own figure in brackets; bloomery's row",
        "has figures alone: tokens per second, seconds from start to first token, gigabytes of peak resident memory.",
        "",
    ]
    notes = [f"- {line}" for line in missing(result, absent)]
    notes = ["", "Not measured:", "", *notes] if notes else []
    return "\n".join([*lines, *table(result, peers), *notes]) + "\n"


def replaced(document: str, text: str) -> str:
    """The document with this text between its marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no place for the table: {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + text + END + after


def table(result: Report, peers: list[str]) -> list[str]:
    """Markdown: for each type of weights our figures, then each peer's ratios with its figures in brackets."""
    metrics = [metric for metric in METRICS if any(metric in row for row in result.figures.values())]
    dtypes = [dtype for dtype in DTYPES if ("bloomery", dtype) in result.figures]
    titles = [f"{metric}, {UNITS[metric]}" if metric in UNITS else metric for metric in metrics]
    lines = ["| | " + " | ".join([*titles, "same tokens"]) + " |", "|" + " --- |" * (len(titles) + 2)]
    return lines + [
        row(result, (name, dtype), metrics)
        for dtype in dtypes
        for name in ("bloomery", *peers)
        if (name, dtype) in result.figures
    ]


def row(result: Report, program: tuple[str, str], metrics: list[str]) -> str:
    """One program with one type of weights."""
    ratios, figures = result.ratios.get(program, {}), result.figures[program]
    cells = [cell(ratios.get(metric), figures.get(metric)) for metric in metrics]
    agreeing = f"{result.same_tokens[program]} of {CHECK.batch}" if program in result.same_tokens else ""
    title = " ".join(program) if ratios else f"**{' '.join(program)}**"
    return "| " + " | ".join([title, *cells, agreeing]) + " |"


def cell(ratio_to_peer: float | None, value: float | None) -> str:
    if value is None:
        return "–"
    return number(value) if ratio_to_peer is None else f"{number(ratio_to_peer)}x ({number(value)})"


def number(value: float) -> str:
    """Three digits, as a person would write them."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def missing(result: Report, absent: dict[str, str]) -> list[str]:
    """A line for everything that was not measured, with the reason."""
    lines = [f"{name}: {why}" for name, why in absent.items()]
    for (name, dtype), failures in sorted(result.failures.items()):
        works = defaultdict(list)
        for work, why in failures.items():
            works[why].append(work)
        lines += [f"{name} {dtype}, {', '.join(named)}: {why}" for why, named in works.items()]
    return lines


def raw(result: Report, about: dict, pairs: list[dict]) -> str:
    """Everything as JSON: what was measured where, the medians, and each single pair."""
    flat = lambda by_program: {" ".join(program): values for program, values in by_program.items()}
    medians = {"ratios": flat(result.ratios), "figures": flat(result.figures)}
    return json.dumps(about | medians | {"pairs": pairs}, indent=1) + "\n"
