"""The report as one HTML file: no script, nothing from elsewhere, dark or light as the reader has
it, every picture with its figures in a table below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from zoneinfo import ZoneInfo

from serving.drift.domain import Separability
from serving.drift.psi import MAJOR, MODERATE
from serving.drift_report.findings import FEWEST, LEVEL, Findings, Row
from serving.drift_report.pictures import calibration, distributions, ranking

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#566072;--paper:#fff;--card:#f5f7fa;
--line:#d5dbe4;--was:#8593a8;--is:#c2410c;--good:#166534}
@media (prefers-color-scheme:dark){:root{--ink:#e8ecf2;--soft:#a9b4c4;--paper:#12161d;
--card:#1b212b;--line:#364152;--was:#7d8ca3;--is:#fb923c;--good:#86efac}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:1.5rem 1rem 4rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .5rem}h2{font-size:1.25rem;margin:2.2rem 0 .6rem}
h3{font-size:1.05rem;margin:1.4rem 0 .4rem}.card h3{margin:0}
p{max-width:46rem}.soft{color:var(--soft)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:1rem 0}
dt{color:var(--soft)}dd{margin:0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;
margin:1rem 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
caption{text-align:left;color:var(--soft);padding-bottom:.3rem}
.major,.moderate{color:var(--is);font-weight:600}.none{color:var(--good)}
td:nth-child(2){white-space:nowrap}
svg{display:block;width:100%;min-width:34rem;height:auto;margin:.6rem 0}
svg .was{fill:var(--was)}svg .is{fill:var(--is)}
svg polyline.was{fill:none;stroke:var(--was);stroke-width:2}
svg polyline.is{fill:none;stroke:var(--is);stroke-width:2}
svg .tick{fill:var(--soft);font:11px system-ui,sans-serif}
svg .grid{stroke:var(--line)}svg .mark{stroke:var(--ink);stroke-dasharray:3 3}
svg .frame{fill:none;stroke:var(--line)}
.key::before{content:"";display:inline-block;width:.8em;height:.8em;margin-right:.35em;
border-radius:.15em;background:var(--was)}.key.is::before{background:var(--is)}
summary{cursor:pointer;color:var(--soft)}a{color:inherit}
"""
_SECURITY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WORDS = {
    "major": "major shift",
    "moderate": "moderate shift",
    "small": "beyond chance, and small",
    "none": "within chance",
}


def page(found: Findings, title: str, facts: Mapping[str, str], timezone: str) -> str:
    """Return the report; ``facts`` are told at its head, times in ``timezone``."""
    zone, seen = ZoneInfo(timezone), found.observed
    facts = {
        **facts,
        "window": f"{_time(seen.start_ms, zone)} to {_time(seen.end_ms, zone)} ({timezone})",
        "events": f"{seen.n:,}",
    }
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_verdict(found))}</p>",
        "<dl>",
        *(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()),
        "</dl>",
        "" if seen.n >= FEWEST else _few(seen.n),
        "<h2>Features, the furthest first</h2>",
        _overview(found.features),
        '<p class="soft">PSI of each feature; the dashed line is what chance gives.</p>',
        _table("Every feature's comparison", _HEAD, [_cells(row) for row in found.features]),
        _legend(),
        *(_card(row) for row in found.features),
        *_answers(found),
        *_performance(found),
        *_separable(found.separable),
        _notes(),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_SECURITY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )


_HEAD = (
    "feature", "finding", "PSI", "band", "by chance", "p", "KS", "moved by", "χ²", "missing", "new",
)  # fmt: skip


def _verdict(found: Findings) -> str:
    moved = [r for r in found.features if r.verdict in ("major", "moderate")]
    if not moved:
        return "No feature has moved by a size that matters, beyond what chance explains."
    names = ", ".join(f"{r.drift.feature} ({r.drift.psi:.2g})" for r in moved[:6])
    more = f" and {len(moved) - 6} more" if len(moved) > 6 else ""
    return f"{len(moved)} of {len(found.features)} features have moved: {names}{more}."


def _overview(rows: Sequence[Row]) -> str:
    return _picture(
        ranking(
            [(r.drift.feature, r.drift.psi, r.drift.critical, r.verdict != "none") for r in rows]
        ),
        "PSI of each feature",
    )


def _cells(row: Row) -> list[str]:
    d = row.drift
    return [
        f'<a href="#{_id(d.feature)}">{escape(d.feature)}</a>',
        f'<span class="{row.verdict}">{_WORDS[row.verdict]}</span>',
        f"{d.psi:.3g}", d.band, f"{d.critical:.2g}", _p(min(row.p.values())),
        _number(d.ks), _number(d.wasserstein), f"{d.chi_squared:.4g}",
        _share(d.missing, d.missing_reference), _share(d.new, d.new_reference),
    ]  # fmt: skip


def _card(row: Row) -> str:
    d = row.drift
    sentence = (
        f"PSI {d.psi:.3g} ({d.band}); chance gives up to {d.critical:.2g} at n={d.n:,}, of which "
        f"{d.n_effective:,.0f} count as independent. "
        "Adjusted p: " + ", ".join(f"{_TESTS[test]} {_p(p)}" for test, p in row.p.items()) + "."
    )
    bars = [[escape(b.label), f"{b.expected:.2%}", f"{b.observed:.2%}"] for b in row.bars]
    return (
        f'<section class="card" id="{_id(d.feature)}"><h3>{escape(d.feature)}: '
        f'<span class="{row.verdict}">{_WORDS[row.verdict]}</span></h3>'
        f"{_picture(distributions(d.feature, row.bars), d.feature)}<p>{escape(sentence)}</p>"
        "<details><summary>The shares as figures</summary>"
        + _table(f"Shares of {d.feature}", ("bin", "training", "window"), bars)
        + "</details></section>"
    )


_TESTS = {
    "psi": "bins (χ²)",
    "ks": "distance (KS)",
    "missing": "missing values",
    "new": "values new to the model",
}


def _answers(found: Findings) -> list[str]:
    if not found.scores:
        return []
    return ["<h2>The model's answers, against its validation</h2>", *map(_card, found.scores)]


def _performance(found: Findings) -> list[str]:
    f = found.observed.figures
    if f is None:
        return [
            "<h2>Performance</h2>",
            "<p>No answer of this version has a label yet in this window.</p>",
        ]
    told = {
        "log_loss": (f.log_loss, f.log_loss_error),
        "brier": (f.brier, f.brier_error),
        "accuracy": (f.accuracy, f.accuracy_error),
        "calibration_gap": (f.calibration_gap, f.calibration_error),
    }
    rows = [
        [
            name.replace("_", " "),
            _number(found.validation.get(name)),
            f"{value:.4g}",
            f"{1.96 * error:.2g}",
        ]
        for name, (value, error) in told.items()
    ]
    title = f"On {f.n:,} answers with their labels"
    head = ("figure", "validation", "window", "± (95 %)")
    picture = calibration(found.before, found.now) if found.now else ""
    return [
        "<h2>Performance</h2>",
        _table(title, head, rows),
        "<h3>What turned out, by score</h3>" + _legend() + _picture(picture, "what turned out")
        if picture
        else "",
    ]


def _separable(found: Separability | None) -> list[str]:
    if found is None:
        return []
    said = "so they differ" if found.is_beyond_chance else "so no change is shown"
    usual = (
        f" Stretches of training of the same length are told from the rest of it at up to "
        f"{found.usual[-1]:.3f}."
        if found.usual
        else ""
    )
    rows = [[escape(each.feature), f"{each.drop:.3f}"] for each in found.features]
    return [
        "<h2>All features together</h2>",
        "<p>A classifier is asked to tell the window's events from training's, by all features at "
        f"once. On events that it has not seen its area under the ROC curve is {found.auc:.3f} "
        f"(95 %: {found.low:.3f} to {found.high:.3f}; 0.5 is a guess), {said}.{usual} Of "
        f"{found.n_reference:,} events of training and {found.n:,} of the window.</p>",
        _table("What it goes by", ("feature", "area lost where its values are shuffled"), rows),
    ]


def _notes() -> str:
    return (
        '<h2>How to read it</h2><p class="soft">PSI, the population stability index, is 0 where '
        f"both distributions are the same; the classic bands begin at {MODERATE:g} (moderate) and "
        f"{MAJOR:g} (major). It depends on the number of events, so what chance gives is told "
        "beside it, for as many events as count as independent. p-values are adjusted for all "
        f"tests of this report (Benjamini and Hochberg); a change is told from {LEVEL:g} on. KS is "
        "the largest distance of the distribution functions; &ldquo;moved by&rdquo; is the "
        "Wasserstein distance in units of the span from training's first to last decile. Missing "
        "and new are shares in the window, with training's in brackets.</p>"
    )


def _legend() -> str:
    return (
        '<p><span class="key">training or validation</span> &nbsp; '
        '<span class="key is">this window</span></p>'
    )


def _picture(svg: str, name: str) -> str:
    """Return the picture in a box that scrolls where the page is narrower than it can be read."""
    said = escape(f"Picture: {name}", quote=True)
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{said}">{svg}</div>'


def _few(n: int) -> str:
    return f"<p><strong>Only {n:,} events</strong>: below {FEWEST} chance alone moves the PSI.</p>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are HTML."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    said = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{said}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _id(name: str) -> str:
    return "feature-" + "".join(c if c.isalnum() else f"-{ord(c):x}-" for c in name)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _share(now: float | None, before: float | None) -> str:
    return "" if now is None or before is None else f"{now:.2%} ({before:.2%})"


def _p(value: float) -> str:
    return "< 1e-12" if value < 1e-12 else f"{value:.2g}"


def _time(time_ms: int, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(zone)
    return at.strftime("%Y-%m-%d %H:%M")
