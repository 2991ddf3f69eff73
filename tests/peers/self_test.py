"""Checks what a wrong figure in the README could come from, without network, packages and models."""

import math
import struct
import tempfile
import time
import xml.etree.ElementTree
from pathlib import Path

import layout
import plot
import report
import weights
from process import Failed, Program, measured
from work import CHECK, MEMORY_OF


def main() -> None:
    tests = [test for name, test in sorted(globals().items()) if name.startswith("test_")]
    for test in tests:
        test()
    print(f"{len(tests)} passed, 0 failed")


def a_pair(work: str, ours: dict, theirs: dict, round: int = 0) -> dict:
    return {"peer": "OpenVINO", "dtype": "f32", "work": work, "round": round, "ours": ours, "theirs": theirs}


def rates(work: str, *both: tuple[float, float]) -> list[dict]:
    side = lambda rate: {"tokens_per_s": rate, "seconds": 1.0, "peak_rss_bytes": 2_000_000_000}
    return [a_pair(work, side(ours), side(theirs), round) for round, (ours, theirs) in enumerate(both)]


def test_a_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians():
    # Ratios 2, 0.5, 4: their median is 2, while the medians 20 and 10 of another order would say otherwise.
    result = report.report(rates("prefill 16", (20, 10), (10, 20), (40, 10)))
    assert result.ratios["OpenVINO", "f32"]["prefill 16"] == 2
    assert result.figures["bloomery", "f32"]["prefill 16"] == 20
    result = report.report(rates("prefill 16", (10, 10), (90, 30), (30, 20)))
    assert result.ratios["OpenVINO", "f32"]["prefill 16"] == 1.5
    assert result.rounds == 3


def test_a_ratio_above_one_is_good_for_us_whatever_the_unit():
    cold = a_pair("cold start", {"seconds": 0.2}, {"seconds": 1.0})
    assert report.report([cold]).ratios["OpenVINO", "f32"] == {"cold start": 5}
    memory = rates(MEMORY_OF, (30, 10))[0]
    memory["theirs"]["peak_rss_bytes"] = 3_000_000_000
    assert report.report([memory]).ratios["OpenVINO", "f32"] == {MEMORY_OF: 3, report.MEMORY: 1.5}


def test_failures_are_reported_and_spoil_no_ratio():
    failed = {"peer": "OpenVINO", "dtype": "f32", "work": "batch 8", "round": 0, "ours": {}, "failed": "signal 6"}
    result = report.report([failed, *rates("prefill 16", (3, 2))])
    assert result.ratios["OpenVINO", "f32"] == {"prefill 16": 1.5}
    assert report.missing(result, {"CTranslate2 f16": "no float16"}) == [
        "CTranslate2 f16: no float16",
        "OpenVINO f32, batch 8: signal 6",
    ]


def test_the_table_has_figures_for_us_and_ratios_for_peers():
    check = a_pair(CHECK.name, {"ids": [1, 2, 3]}, {"ids": [1, 2, 4]})
    text = report.section(report.report([check, *rates("prefill 16", (300, 200))]), ["OpenVINO"], "that day.", {})
    assert "| **bloomery f32** | 300 |  |" in text, text
    assert "| OpenVINO f32 | 1.50x (200) | 2 of 8 |" in text, text
    document = f"a\n{report.BEGIN}old\n{report.END}b\n"
    assert report.replaced(document, text) == f"a\n{report.BEGIN}{text}{report.END}b\n"


def test_numbers_have_three_digits():
    assert [report.number(x) for x in (0.5, 9.996, 99.96, 1234.5)] == ["0.50", "10.0", "100", "1234"]


def test_the_plot_puts_twice_as_fast_on_its_grid_line():
    picture = plot.svg(report.report(rates("prefill 16", (20, 10))), ["OpenVINO"], "<a & b>")
    root = xml.etree.ElementTree.fromstring(picture)
    places = [element.get("transform") for element in root.iter() if element.get("transform")]
    # One mark in the legend and one in the panel: at 2x, where the axis from 1/2 to 2 ends.
    assert len(places) == 2 and places[1].startswith(f"translate({plot.PADDING + plot.LABELS + plot.AXIS:.1f},")


def test_weights_are_the_same_in_every_type():
    for value in weights.MATRIX + weights.BIAS + weights.GAIN + weights.FIRST_GAIN:
        f32, f16, bf16 = (weights.encode(value, dtype) for dtype in ("f32", "f16", "bf16"))
        assert struct.unpack("<f", f32)[0] == struct.unpack("<e", f16)[0] == value
        assert struct.unpack("<f", b"\0\0" + bf16)[0] == value
    name, shape = "transformer.h.0.mlp.dense_h_to_4h.weight", (256, 64)
    read = [weights.random_tensor(name, shape, dtype) for dtype in ("f32", "f16")]
    values = [struct.unpack(f"<{256 * 64}{letter}", data) for letter, data in zip("fe", read)]
    assert values[0] == values[1] and math.isclose(sum(x * x for x in values[0]) / len(values[0]), 4e-4, rel_tol=0.05)


def test_a_checkpoint_has_the_published_number_of_weights():
    assert sum(map(weights.elements, weights.names_and_shapes().values())) == 559_214_592


def test_a_process_is_timed_until_its_answer_and_its_failure_explained():
    def program(script: str) -> Program:
        return Program("sh", "", lambda _: ["sh", "-c", script], lambda printed, _: printed, {}, Path("nowhere"))

    begin = time.monotonic()
    done = measured(program("echo noise; echo '@{\"ids\": [7]}'; sleep 0.3"), CHECK, 30)
    assert done["ids"] == [7] and done["peak_rss_bytes"] > 100_000
    assert 0 < done["seconds"] <= time.monotonic() - begin - 0.3
    for script, why in (
        ("echo no /some/where/file >&2; exit 3", "exit code 3: no file"),
        ("sleep 9", "not done after 0 s"),
        ("echo '@{\"refused\": \"no bf16\"}'", "no bf16"),
    ):
        try:
            measured(program(script), CHECK, 0.4 if "sleep" in script else 30)
            raise AssertionError(script)
        except Failed as failure:
            assert str(failure) == why, failure


def test_what_is_made_is_made_once_and_only_whole():
    calls = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "thing"
        make = lambda partial: (partial / "file").write_text(str(calls.append(1))) and {"said": len(calls)}
        assert layout.once(target, {"of": 1}, make) == layout.once(target, {"of": 1}, make) == {"said": 1}
        assert layout.once(target, {"of": 2}, make) == {"said": 2}
        assert (target / "file").exists() and not target.with_name("thing.partial").exists()


if __name__ == "__main__":
    main()
