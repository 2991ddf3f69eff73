"""The ratios as a picture: a panel for each type of weights, a row for each work, a mark for each peer.

The axis is logarithmic, so that twice as fast and half as fast lie equally far from the line at 1, and it ends at 16:
what is slower still stands at its end. The picture brings its own background and follows the reader's light or dark
scheme.
"""

from html import escape
from math import ceil, floor, log2

from report import METRICS, Report
from weights import DTYPES

# Hues that stand on white and on black, shapes for those who cannot tell them apart.
MARKS = {
    "llama.cpp": ("#3b82f6", "M-4.5,0A4.5,4.5,0,1,0,4.5,0A4.5,4.5,0,1,0,-4.5,0Z"),
    "OpenVINO": ("#e0821e", "M-4,-4H4V4H-4Z"),
    "CTranslate2": ("#12a37c", "M0,-5L5,4H-5Z"),
    "transformers": ("#c05ad0", "M0,-5.5L5.5,0L0,5.5L-5.5,0Z"),
    "ik_llama.cpp": ("#c2a500", "M-5,-4H5L0,5Z"),
}

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.card { fill: #ffffff; stroke: #d0d7de }
.title { font-size: 15px; font-weight: 600; fill: #1f2328 }
.best { font-weight: 600; fill: #1f2328 }
.band { fill: #f6f8fa }
.grid { stroke: #d8dee4 }
.even { stroke: #57606a; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .card { fill: #0d1117; stroke: #3d444d }
  .title, .best { fill: #f0f6fc }
  .band { fill: #161b22 }
  .grid { stroke: #2a313c }
  .even { stroke: #9198a1 }
}
"""

# The powers of two between which the axis may reach.
LEAST, MOST = -2, 4

LABELS, TOP, ROW, AXIS, BEST, GAP, PADDING = 118, 108, 40, 230, 46, 22, 20


def svg(result: Report, peers: list[str], caption: str) -> str:
    """The whole picture."""
    panels = [dtype for dtype in DTYPES if any(dtype == own for _, own in result.ratios)]
    metrics = [metric for metric in METRICS if any(metric in row for row in result.ratios.values())]
    values = [value for row in result.ratios.values() for value in row.values()]
    low = max(LEAST, min(-1, floor(log2(min(values)))))
    high = min(MOST, max(1, ceil(log2(max(values)))))
    width = PADDING * 2 + LABELS + len(panels) * (AXIS + BEST) + (len(panels) - 1) * GAP
    height = TOP + ROW * len(metrics) + 62
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>bloomery against other programs: {escape(caption)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        text(PADDING, 32, "How many times better bloomery is: BLOOM-560M on a CPU", "title"),
        *legend(peers),
        *rows(metrics, width),
    ]
    for i, dtype in enumerate(panels):
        left = PADDING + LABELS + i * (AXIS + BEST + GAP)
        parts += panel(result, dtype, peers, metrics, left, low, high)
    parts += [text(PADDING, height - 16, caption), "</svg>"]
    return "\n".join(parts) + "\n"


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def mark(peer: str, x: float, y: float) -> str:
    color, shape = MARKS[peer]
    return f'<path d="{shape}" fill="{color}" transform="translate({x:.1f},{y:.1f})"/>'


def legend(peers: list[str]) -> list[str]:
    parts, x = [], PADDING + 6
    for peer in peers:
        parts += [mark(peer, x, 54), text(x + 11, 58, peer)]
        x += 42 + 7 * len(peer)
    return parts


def rows(metrics: list[str], width: int) -> list[str]:
    """A name for each row, and a band behind every other one."""
    parts = []
    for i, metric in enumerate(metrics):
        y = TOP + i * ROW
        if i % 2 == 0:
            parts.append(f'<rect class="band" x="10" y="{y}" width="{width - 20}" height="{ROW}" rx="4"/>')
        parts.append(text(PADDING, y + ROW / 2 + 4, metric))
    return parts


def panel(
    result: Report, dtype: str, peers: list[str], metrics: list[str], left: float, low: int, high: int
) -> list[str]:
    """The axis of one type of weights, its marks, and in each row the ratio to the best peer."""
    place = lambda value: left + (min(max(log2(value), low), high) - low) / (high - low) * AXIS
    bottom = TOP + ROW * len(metrics)
    parts = [text(left, 84, f"{dtype} weights", "best"), text(left + AXIS + BEST, 84, "least", anchor="end")]
    for power in range(low, high + 1):
        x, kind = place(2.0**power), "even" if power == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}"/>')
        parts.append(text(x, bottom + 16, f"{2.0**power:g}x" + "+" * (power == MOST), anchor="middle"))
    for i, metric in enumerate(metrics):
        middle = TOP + (i + 0.5) * ROW
        shown = [(peer, result.ratios.get((peer, dtype), {}).get(metric)) for peer in peers]
        shown = [(peer, value) for peer, value in shown if value is not None]
        for lane, (peer, value) in enumerate(shown):
            y = middle + (lane - (len(shown) - 1) / 2) * (ROW - 10) / max(len(peers), 1)
            line = f'<line x1="{place(1):.1f}" x2="{place(value):.1f}" y1="{y:.1f}" y2="{y:.1f}"'
            parts += [f'{line} stroke="{MARKS[peer][0]}" stroke-width="2" opacity="0.5"/>', mark(peer, place(value), y)]
        if shown:
            least = min(value for _, value in shown)
            parts.append(text(left + AXIS + BEST, middle + 4, f"{least:.2f}x", "best", "end"))
    return parts
