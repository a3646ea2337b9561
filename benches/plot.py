"""A plot of lines with logarithmic axes, as SVG."""

from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 170, 50, 60
# A line is told from another without its colour as well: by its dashes and its marks.
COLOURS = ["#b04a3a", "#c98a2b", "#6b6b6b", "#1f4e8c", "#1d6b38", "#a9a9a9"]
DASHES = ["7 4", "2 3", "10 3 2 3", "", "", "1 4"]
MARKS = ["square", "triangle", "cross", "circle", "diamond", "none"]


def mark(shape, x, y, colour):
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    drawn = {
        "square": "m-3.5-3.5h7v7h-7z",
        "triangle": "m0-4.5l4.5 8h-9z",
        "diamond": "m0-5l5 5-5 5-5-5z",
        "cross": "m-4-4l8 8m0-8l-8 8",
    }.get(shape)
    if drawn is None:
        return ""
    paint = f'stroke="{colour}" stroke-width="2"' if shape == "cross" else f'fill="{colour}"'
    return f'<path d="M{x:.1f} {y:.1f}{drawn}" {paint}/>'


def label(power):
    return f"{10 ** power:g}" if -3 <= power < 4 else {6: "1M", 5: "100k", 4: "10k"}.get(
        power, f"1e{power}")


def save(path, title, x_name, y_name, lines):
    """`lines`: by name, the points (x, y), all above zero."""
    points = [point for line in lines.values() for point in line]
    x_powers, y_powers = (
        (floor(min(log10(p[axis]) for p in points)), ceil(max(log10(p[axis]) for p in points)))
        for axis in (0, 1))

    def x_of(value):
        low, high = x_powers
        return LEFT + (log10(value) - low) / max(high - low, 1) * (WIDTH - LEFT - RIGHT)

    def y_of(value):
        low, high = y_powers
        return HEIGHT - BOTTOM - (log10(value) - low) / max(high - low, 1) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="28" font-size="16">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">'
        f"{escape(x_name)}</text>",
        f'<text x="20" y="{HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 20 {HEIGHT / 2})">{escape(y_name)}</text>',
    ]
    for power in range(x_powers[0], x_powers[1] + 1):
        x = x_of(10 ** power)
        out.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">'
                   f"{label(power)}</text>")
    for power in range(y_powers[0], y_powers[1] + 1):
        y = y_of(10 ** power)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label(power)}</text>')
    for row, ((name, line), colour, dashes, shape) in enumerate(
            zip(lines.items(), COLOURS, DASHES, MARKS)):
        stroke = f'stroke="{colour}" stroke-width="2"'
        stroke += f' stroke-dasharray="{dashes}"' if dashes else ""
        drawn = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in line)
        if drawn:
            out.append(f'<path d="M{drawn}" fill="none" {stroke}/>')
        out += filter(None, (mark(shape, x_of(x), y_of(y), colour) for x, y in line))
        x, y = WIDTH - RIGHT + 16, TOP + 12 + 22 * row
        out.append(f'<path d="M{x} {y}h28" {stroke}/>')
        out += filter(None, [mark(shape, x + 14, y, colour)])
        out.append(f'<text x="{x + 36}" y="{y + 4}">{escape(name)}</text>')
    out.append("</svg>")
    path.write_text("\n".join(out) + "\n")
