"""Pictures as inline SVG, each with a text that says what it shows. Colours are the page's own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from serving.drift_report.findings import Bar, Point

WIDTH, HEIGHT = 640, 200
LEFT, BOTTOM, TOP = 44, 46, 10
LONGEST_LABEL = 14
MOST_LABELS = 16


def distributions(name: str, bars: Sequence[Bar]) -> str:
    """Return both sides' shares per bin, side by side."""
    most = max((max(b.expected, b.observed) for b in bars), default=0.0) or 1.0
    slot = (WIDTH - LEFT - 8) / max(1, len(bars))
    height = HEIGHT - BOTTOM - TOP
    parts = [*_axis(most, height)]
    every = -(-len(bars) // MOST_LABELS)
    for i, bar in enumerate(bars):
        x = LEFT + i * slot
        for share, kind, at in ((bar.expected, "was", 0.1), (bar.observed, "is", 0.5)):
            tall = share / most * height
            parts.append(
                f'<rect class="{kind}" x="{x + at * slot:.1f}" y="{TOP + height - tall:.1f}" '
                f'width="{0.38 * slot:.1f}" height="{tall:.1f}"/>'
            )
        if i % every == 0:
            parts.append(
                f'<text class="tick" transform="translate({x + slot / 2:.1f} '
                f'{TOP + height + 12}) rotate(-20)" text-anchor="end">'
                f"{escape(short(bar.label))}</text>"
            )
    moved = sorted(bars, key=lambda b: -abs(b.observed - b.expected))[:3]
    told = "; ".join(f"{b.label}: {b.expected:.1%} to {b.observed:.1%}" for b in moved)
    return _svg(f"{name}: shares per bin in training and in the window. {told}", HEIGHT, parts)


def short(label: str) -> str:
    """Return a bin's label as it fits below its bars; a range keeps both of its ends.

    >>> short("0.02454 to 0.03571"), short("a very long category")
    ('.025–.036', 'a very long c…')
    """
    if len(label) <= LONGEST_LABEL:
        return label
    try:
        ends = [_brief(float(end)) for end in label.split(" to ")]
    except ValueError:
        return f"{label[: LONGEST_LABEL - 1]}…"
    return "\N{EN DASH}".join(ends)


def _brief(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    text = f"{value:.2g}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def ranking(rows: Sequence[tuple[str, float, float, bool]]) -> str:
    """Return PSI per feature: (name, PSI, what chance gives, whether it is beyond chance)."""
    most = max((max(psi, critical) for _, psi, critical, _ in rows), default=0.0) or 1.0
    line, left = 22, 190
    wide = WIDTH - left - 60
    parts: list[str] = []
    for i, (name, psi, critical, beyond) in enumerate(rows):
        y = TOP + i * line
        mark = left + min(1.0, critical / most) * wide
        end = left + psi / most * wide
        told_at = end + 5 if not end < mark < end + 45 else mark + 5
        parts += [
            f'<text class="tick" x="{left - 6}" y="{y + 14}" text-anchor="end">'
            f"{escape(name[:28])}</text>",
            f'<rect class="{"is" if beyond else "was"}" x="{left}" y="{y + 3}" '
            f'width="{max(1.0, end - left):.1f}" height="{line - 8}"/>',
            f'<line class="mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="{y}" y2="{y + line - 2}"/>',
            f'<text class="tick" x="{told_at:.1f}" y="{y + 14}">{psi:.3g}</text>',
        ]
    told = ", ".join(f"{name} {psi:.3g}" for name, psi, _, beyond in rows if beyond) or "none"
    text = f"PSI of each feature; the line is what chance gives. Beyond chance: {told}"
    return _svg(text, TOP + line * max(1, len(rows)) + 6, parts)


def calibration(before: Sequence[Point], now: Sequence[Point]) -> str:
    """Return what turned out by score, in validation and in the window."""
    size, left = 260, 44

    def at(point: Point) -> str:
        return f"{left + point.score * size:.1f},{TOP + (1 - point.happened) * size:.1f}"

    parts = [
        f'<rect class="frame" x="{left}" y="{TOP}" width="{size}" height="{size}"/>',
        f'<line class="mark" x1="{left}" y1="{TOP + size}" x2="{left + size}" y2="{TOP}"/>',
        f'<text class="tick" x="{left + size / 2}" y="{TOP + size + 30}" text-anchor="middle">'
        "score</text>",
        f'<text class="tick" x="{left - 6}" y="{TOP + size / 2}" text-anchor="end">share</text>',
        f'<text class="tick" x="{left - 6}" y="{TOP + 10}" text-anchor="end">1</text>',
        f'<text class="tick" x="{left - 6}" y="{TOP + size}" text-anchor="end">0</text>',
        f'<text class="tick" x="{left}" y="{TOP + size + 14}" text-anchor="middle">0</text>',
        f'<text class="tick" x="{left + size}" y="{TOP + size + 14}" text-anchor="middle">1</text>',
    ]
    for points, kind in ((before, "was"), (now, "is")):
        parts.append(f'<polyline class="{kind}" points="{" ".join(map(at, points))}"/>')
        for point in points:
            x, y = at(point).split(",")
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="3"/>')
    told = "; ".join(f"score {p.score:.2f}: {p.happened:.1%} of {p.n:,}" for p in now)
    return _svg(f"What turned out by score in the window: {told}", TOP + size + 36, parts)


def _axis(most: float, height: int) -> list[str]:
    parts = []
    for share in (0.0, most / 2, most):
        y = TOP + height - share / most * height
        parts += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{share:.0%}</text>",
        ]
    return parts


def _svg(text: str, height: int, parts: Sequence[str]) -> str:
    said = escape(text, quote=True)
    return (
        f'<svg role="img" aria-label="{said}" viewBox="0 0 {WIDTH} {height}" '
        f'preserveAspectRatio="xMinYMin meet">{"".join(parts)}</svg>'
    )
