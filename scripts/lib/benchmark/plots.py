# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG text, without any library: horizontal bars and lines. Readable on a light and on a dark page."""
import math

from .results import thousands

WIDTH = 760
COLOURS = ("#3b76af", "#d1743b", "#4e9a5b", "#a05195", "#8a8a8a")
STYLE = ("<style>text{font:13px system-ui,sans-serif;fill:#555}.title{font-size:15px;font-weight:600}.small{font-size:11px}"
         "@media(prefers-color-scheme:dark){text{fill:#bbb}}</style>")


def escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _document(height, title, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{STYLE}\n'
            f'<text class="title" x="10" y="22">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n")


def bars(title, rows, unit, left=230):
    """rows: [(label, [(part's name, value), ...])]; the parts of a row stand one behind the other."""
    longest = max(sum(value for _, value in parts) for _, parts in rows) or 1
    scale, y, out = (WIDTH - left - 110) / longest, 40, []
    names = list(dict.fromkeys(name for _, parts in rows for name, _ in parts))
    for label, parts in rows:
        x = left
        out.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(label)}</text>')
        for name, value in parts:
            colour = COLOURS[names.index(name) % len(COLOURS)]
            out.append(f'<rect x="{x:.1f}" y="{y}" width="{max(value * scale, 1):.1f}" height="20" fill="{colour}"><title>{escape(name)}: {value:.4g} {unit}</title></rect>')
            x += value * scale
        total = sum(value for _, value in parts)
        out.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{total:.3g} {escape(unit)}</text>')
        y += 30
    if len(names) > 1:
        out += _legend(names, left, y + 4)
        y += 26
    return _document(y + 10, title, out)


def _legend(names, x, y):
    out = []
    for index, name in enumerate(names):
        out.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[index % len(COLOURS)]}"/>'
                   f'<text class="small" x="{x + 17}" y="{y + 11}">{escape(name)}</text>')
        x += 30 + 7 * len(name)
    return out


def lines(title, x_name, y_name, series):
    """series: {name: [(x, y), ...]}; x is drawn by its logarithm, y from 0."""
    left, right, top, bottom = 80, WIDTH - 20, 40, 270
    points = [point for values in series.values() for point in values]
    low, high = math.log10(min(x for x, _ in points)), math.log10(max(x for x, _ in points))
    ceiling = _round_up(max(y for _, y in points))

    def place(x, y):
        across = (math.log10(x) - low) / (high - low) if high > low else 0.5
        return left + across * (right - left), bottom - y / ceiling * (bottom - top)
    out = []
    for step in range(5):
        value = ceiling * step / 4
        y = place(10 ** low, value)[1]
        out.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#888" stroke-opacity="0.3"/>'
                   f'<text class="small" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{thousands(value)}</text>')
    for x in sorted({x for x, _ in points}):
        out.append(f'<text class="small" x="{place(x, 0)[0]:.1f}" y="{bottom + 18}" text-anchor="middle">{thousands(x)}</text>')
    for index, (name, values) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in sorted(values)))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{escape(name)}</title></circle>' for x, y in (place(*p) for p in values)]
    out.append(f'<text class="small" x="{(left + right) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(x_name)}</text>')
    out.append(f'<text class="small" x="14" y="{(top + bottom) / 2}" text-anchor="middle" transform="rotate(-90 14 {(top + bottom) / 2})">{escape(y_name)}</text>')
    out += _legend(list(series), left, bottom + 50)
    return _document(bottom + 75, title, out)


def _round_up(value):
    if value <= 0:
        return 1
    unit = 10 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 2.5, 4, 5, 8, 10) if step * unit >= value)
