#!/usr/bin/env python3
"""bloomery against what one would use instead: installs it, gives all programs the same weights, measures, reports.

Everything happens in one folder and can be interrupted: what is there is not done again, so a second call with more
`--rounds` adds to the first. Four stages:

    install   each peer in an environment of its own (needs pip and compilers of C and C++; 30 GB with all models)
    weights   BLOOM-560M's shape with random weights, once in each type, and what each peer makes of them
    measure   bloomery and a peer in turn, each time a fresh process, and so through all peers, works and rounds
    report    DIR/report: table.md, peers.svg, peers.json; with --write-readme also the README's section

Figures of another machine, another number of threads or another build of bloomery stay in DIR and are not mixed in.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

import adapters
import measure
import plot
import prepare
import report
import self_test
import weights
from layout import Layout
from process import Failed
from work import QUICK, TIMED

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> None:
    options = arguments()
    if options.self_test:
        return self_test.main()
    layout = Layout(options.folder.resolve())
    layout.root.mkdir(parents=True, exist_ok=True)
    absent: dict[str, str] = {}
    peers = prepare.installed(options.peers, layout, absent)
    programs = prepare.prepared(options, peers, layout, absent)
    series = measure.Series(layout.pairs, {"machine": machine(), "threads": options.threads}, programs)
    if not options.prepare_only:
        series.measure(options.works, options.rounds, options.seconds_max)
    write_report(options, series, layout, absent)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = {importlib.import_module(f"adapters.{name}").NAME: name for name in adapters.PEERS}
    works = [work.name for work in TIMED]
    add = parser.add_argument
    add("--folder", type=Path, default=ROOT / "target" / "peers", metavar="DIR", help="default: target/peers")
    add("--peers", type=some_of(named), default=tuple(named), metavar="A,B", help=f"of {','.join(named)}")
    add("--dtypes", type=some_of(weights.DTYPES), default=tuple(weights.DTYPES), metavar="A,B", help="of f32,f16,bf16")
    add("--compute", choices=("f32", "bf16"), default="f32", help="what bloomery computes in with bf16 weights, default: f32")
    add("--works", type=some_of(works), metavar="A,B", help=f"of {','.join(works)}")
    add("--quick", action="store_true", help=f"one round of {','.join(QUICK)}")
    add("--rounds", type=int, default=3, metavar="N", help="pairs of each kind, default: 3")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="default: one per processor")
    add("--seconds-max", type=float, default=900, metavar="S", help="a process may take so long, default: 900")
    add("--bloomery", type=Path, default=ROOT / "target/release/bloomery", metavar="PATH", help="the binary to measure")
    add("--prepare-only", action="store_true", help="measure nothing, report what was measured before")
    add("--write-readme", action="store_true", help="put the table into README.md and the plot beside this script")
    add("--self-test", action="store_true", help="check the report's maths, without network and packages")
    options = parser.parse_args()
    if not (options.self_test or options.bloomery.exists()):
        parser.error(f"{options.bloomery} does not exist: `cargo build --release` makes it, or give --bloomery PATH")
    options.peers = [named[peer] for peer in options.peers]
    options.works = options.works or (QUICK if options.quick else works)
    options.rounds = 1 if options.quick else options.rounds
    return options


def some_of(known):
    """The parser of a list of names."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return parse


def machine() -> str:
    """The processor and the widest unit that it has, e.g. `AMD EPYC (avx2)`."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = fields.get("flags", fields.get("Features", "")).split()
    widest = next((unit for unit in ("amx_tile", "avx512f", "avx2", "asimd") if unit in flags), "scalar")
    return f"{fields.get('model name', os.uname().machine)} ({widest})"


def write_report(options: argparse.Namespace, series: measure.Series, layout: Layout, absent: dict[str, str]) -> None:
    pairs = series.pairs()
    result = report.report(pairs)
    if not result.ratios:
        return prepare.say("nothing is measured yet")
    peers = list(dict.fromkeys(pair["peer"] for pair in pairs))
    versions = sorted({version for pair in pairs for version in pair["versions"]})
    caption = f"{max(pair['date'] for pair in pairs)[:10]}, {machine()}, {options.threads} threads"
    caption += f", medians of up to {result.rounds} pairs" if result.rounds > 1 else ", one pair of each"
    text = report.section(result, peers, f"{caption}; {', '.join(versions)}.", absent)
    picture = plot.svg(result, peers, caption)
    layout.report.mkdir(exist_ok=True)
    (layout.report / "table.md").write_text(text)
    (layout.report / "peers.svg").write_text(picture)
    (layout.report / "peers.json").write_text(report.raw(result, series.about | {"versions": versions}, pairs))
    print(text)
    if options.write_readme:
        (HERE / "peers.svg").write_text(picture)
        readme = ROOT / "README.md"
        shown = f"![{caption}](tests/peers/peers.svg)\n\n{text}"
        readme.write_text(report.replaced(readme.read_text(), shown))


if __name__ == "__main__":
    try:
        main()
    except Failed as why:
        sys.exit(f"error: {why}")
    except KeyboardInterrupt:
        sys.exit("interrupted; call it again to go on")
