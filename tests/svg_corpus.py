"""240 SVG files in the ways that drawing programs write them, made anew from seeds: `corpus()`.

Nothing here knows how the reader works: it writes text, as the programs do. Shapes are random, spellings are
the programs' own.
"""

from __future__ import annotations

import math
import random

SEEDS = 20  # files of each style
NS = 'xmlns="http://www.w3.org/2000/svg"'
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'

Command = tuple[str, list[float | str]]  # letter; numbers, arc flags as "0" and "1"


# --- path data


def commands(rng: random.Random, side: float, *, letters="LHVCSQTA", upper=0.5, subpaths=2) -> list[Command]:
    """Random path data inside of a square of that side."""
    found: list[Command] = []
    at = start = (0.0, 0.0)
    for i in range(rng.randint(1, subpaths)):
        for letter in ["M", *rng.choices(letters, k=rng.randint(2, 7))]:
            before = found[-1][0].upper() if found else ""
            letter = "Q" if letter == "T" and before not in "QT" else letter  # svgelements reflects anything;
            letter = "C" if letter == "S" and before not in "CS" else letter  # programs have nothing there
            relative = rng.random() >= upper and not (i == 0 and letter == "M")
            x0, y0 = at if relative else (0.0, 0.0)
            places = {"C": 3, "S": 2, "Q": 2}.get(letter, 1)
            points = [(rng.uniform(0, side), rng.uniform(0, side)) for _ in range(places)]
            end = points[-1]
            values: list[float | str] = [v for x, y in points for v in (x - x0, y - y0)]
            if letter == "H":
                values, end = values[:1], (end[0], at[1])
            elif letter == "V":
                values, end = values[1:], (at[0], end[1])
            elif letter == "A":
                rx, ry = (rng.choice([rng.uniform(0.02, 0.9) * side, side / 4]) for _ in range(2))
                turn = rng.choice([0, 0, 30, -45.5, 200])
                values = [rx, ry, turn, rng.choice("01"), rng.choice("01"), *values]
            at = end
            start = at if letter == "M" else start
            found.append((letter.lower() if relative else letter, values))
        if rng.random() < 0.5:
            found.append((rng.choice("Zz"), []))
            at = start
    return found


def number(value: float | str, decimals: int) -> str:
    if isinstance(value, str):
        return value
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def spaced(path: list[Command], *, decimals=3, comma=",", after=" ") -> str:
    """`m 1,2 c 3,4 5,6 7,8 z`, as Inkscape writes it; other separators for others."""

    def values(items):
        texts = [number(value, decimals) for value in items]
        if len(texts) % 2 == 0:
            return " ".join(comma.join(pair) for pair in zip(texts[::2], texts[1::2], strict=True))
        return " ".join(texts)

    return after.join(f"{letter}{after if items else ''}{values(items)}" for letter, items in path)


def packed(path: list[Command], decimals=2) -> str:
    """As short as svgo makes it: `m1 2.5.5-3 4a3 3 0 016 0z`."""
    out, last_letter = "", ""
    for letter, values in path:
        if letter != {"M": "L", "m": "l"}.get(last_letter, last_letter) or letter in "Zz":
            out += letter
        flagged = False
        for i, value in enumerate(values):
            text = number(value, decimals)
            text = text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
            touching = out[-1].isalpha() or text[0] == "-" or flagged
            dotted = text[0] == "." and _ends_in_fraction(out)
            out += text if touching or dotted else " " + text
            flagged = letter in "Aa" and i in (3, 4)
        last_letter = letter
    return out


def _ends_in_fraction(text: str) -> bool:
    digits = len(text) - len(text.rstrip("0123456789"))
    return digits > 0 and text[: len(text) - digits].endswith(".")


def points(rng: random.Random, side: float, form: str = "{} {}", n: int = 5) -> str:
    return " ".join(
        form.format(round(rng.uniform(0, side), 2), round(rng.uniform(0, side), 2)) for _ in range(n)
    )


def basic_shape(rng: random.Random, side: float, attributes: str = "", unit: str = "") -> str:
    """One of the basic shapes, its lengths in `unit`."""

    def length(share: float = 1.0) -> str:
        return f"{rng.uniform(0.1, 0.9) * side * share:.3f}".rstrip("0") + unit

    radius = rng.choice(
        ["", f' rx="{length(0.2)}"', f' ry="{length(0.1)}"', f' rx="{length()}" ry="{length(0.2)}"']
    )
    return rng.choice(
        [
            f'<rect x="{length(0.4)}" y="{length(0.4)}" width="{length(0.5)}" height="{length(0.5)}"{radius} '
            f"{attributes}/>",
            f'<circle cx="{length()}" cy="{length()}" r="{length(0.4)}" {attributes}/>',
            f'<ellipse cx="{length()}" cy="{length()}" rx="{length(0.4)}" ry="{length(0.3)}" {attributes}/>',
            f'<line x1="{length()}" y1="{length()}" x2="{length()}" y2="{length()}" {attributes}/>',
            f'<polyline points="{points(rng, side)}" {attributes}/>',
            f'<polygon points="{points(rng, side, "{},{}")}" {attributes}/>',
        ]
    )


def transform(rng: random.Random, side: float, *, skew=False) -> str:
    """A transform that keeps sizes within a factor of two; without `skew`, circles stay circles."""
    shift, zoom = side / 5, rng.uniform(0.6, 1.4)
    x, y = rng.uniform(-shift, shift), rng.uniform(-shift, shift)
    angle = rng.uniform(-180, 180)
    cos, sin = math.cos(math.radians(angle)) * zoom, math.sin(math.radians(angle)) * zoom
    skewed = [
        f"skewX({angle / 8:.1f})",
        f"skewY({angle / 8:.1f})",
        f"translate({x:.1f},{y:.1f})  rotate({angle:.0f}),scale(1.1,.8)",
    ]
    return rng.choice(
        [
            f"translate({x:.3f},{y:.3f})",
            f"translate({x:.2f})",
            f"scale({zoom:.3f})",
            f"scale({zoom:.3f} {-zoom:.3f}) translate(0 {-side})",
            f"rotate({angle:.2f})",
            f"rotate({angle:.1f} {side / 2} {side / 2})",
            f"matrix({cos:.5f},{sin:.5f},{-sin:.5f},{cos:.5f},{side / 2:.3f},{x:.3f})",
            *(skewed if skew else ()),
        ]
    )


# --- styles


def inkscape(rng: random.Random) -> str:
    width, height = rng.choice([(210, 297), (100, 60), (297, 210)])
    side = min(width, height)
    style = 'style="fill:none;stroke:#000000;stroke-width:0.26px;stroke-linecap:butt;stroke-opacity:1"'
    lines = [
        f'<path {style} d="{spaced(commands(rng, side, upper=0.1), decimals=6)}" id="path{i}" '
        f'inkscape:connector-curvature="0" sodipodi:nodetypes="cc"/>'
        for i in range(4)
    ]
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<!-- Created with Inkscape (http://www.inkscape.org/) -->
<svg width="{width}mm" height="{height}mm" viewBox="0 0 {width} {height}" version="1.1" id="svg5"
   inkscape:version="1.2.2" sodipodi:docname="a.svg" {NS} {XLINK} xmlns:svg="http://www.w3.org/2000/svg"
   xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape"
   xmlns:sodipodi="http://sodipodi.sourceforge.net/DTD/sodipodi-0.dtd">
  <sodipodi:namedview id="namedview7" pagecolor="#ffffff"><inkscape:grid/></sodipodi:namedview>
  <defs id="defs2"><linearGradient id="lg"/><path id="kept" d="M 0,0 H 5"/></defs>
  <g inkscape:groupmode="layer" id="layer1" inkscape:label="Hidden" style="display:none">{lines[0]}</g>
  <g inkscape:groupmode="layer" id="layer2" transform="{transform(rng, side)}">{lines[1]}
    <g transform="matrix(0.9,0,0,0.9,1,2)">{lines[2]}</g>{lines[3]}
    <use x="0" y="0" xlink:href="#path3" id="use9" transform="translate(5.5,-3)" width="100%" height="100%"/>
    {basic_shape(rng, side, style)}
  </g>
</svg>"""


def illustrator(rng: random.Random) -> str:
    side = rng.choice([100, 841.9, 512])
    doctype = rng.choice(
        [
            "",
            '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n',
        ]
    )
    shapes = "\n".join(
        [
            *(
                f'<path class="st0" d="{spaced(commands(rng, side, upper=0.3), comma=",", after="")}"/>'
                for _ in range(3)
            ),
            basic_shape(rng, side, f'class="st1" transform="{transform(rng, side)}"'),
            basic_shape(rng, side, 'class="st0 st1"'),
            basic_shape(rng, side, 'class="st2"'),
        ]
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!-- Generator: Adobe Illustrator 27.0.0, SVG Export Plug-In . SVG Version: 6.00 Build 0)  -->
{doctype}<svg version="1.1" id="Layer_1" {NS} {XLINK} x="0px" y="0px" viewBox="0 0 {side} {side}"
\t style="enable-background:new 0 0 {side} {side};" xml:space="preserve">
<style type="text/css">
\t.st0{{fill:none;stroke:#231F20;stroke-width:2;stroke-miterlimit:10;}}
\t.st1{{fill:#ED1C24;stroke:#231F20;}}
\t.st2{{display:none;}}
</style>
<g>
{shapes}
</g>
</svg>"""


def figma(rng: random.Random) -> str:
    width, height = rng.choice([(24, 24), (375, 812), (120, 40)])
    side = min(width, height)
    paths = "\n".join(
        f'<path fill-rule="evenodd" clip-rule="evenodd" '
        f'd="{spaced(commands(rng, side, letters="LHVC", upper=1), decimals=5, comma=" ", after="")}" '
        'fill="#1E1E1E"/>'
        for _ in range(3)
    )
    turned = f"rotate({rng.choice([-45, 90, 12.5])} {rng.uniform(0, side):.3f} {rng.uniform(0, side):.3f})"
    return f"""<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" fill="none" {NS}>
<g clip-path="url(#clip0_12_34)">
{paths}
<rect x="0.5" y="0.5" width="{side / 2}" height="{side / 3:.4f}" rx="{side / 20}"
 transform="{turned}" stroke="black"/>
{basic_shape(rng, side, 'stroke="#1E1E1E" stroke-width="2"')}
</g>
<defs>
<clipPath id="clip0_12_34">
<rect width="{width}" height="{height}" fill="white"/>
</clipPath>
</defs>
</svg>
"""


def sketch_app(rng: random.Random) -> str:
    side = rng.choice([16, 48, 300])
    x, y = rng.uniform(0, side), rng.uniform(0, side)
    d = [spaced(commands(rng, side, letters="LC", upper=1), decimals=8, after="") for _ in range(3)]
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<svg width="{side}px" height="{side}px" viewBox="0 0 {side} {side}" version="1.1" {NS} {XLINK}>
    <!-- Generator: Sketch 63.1 (92452) - https://sketch.com -->
    <title>icon</title>
    <desc>Created with Sketch.</desc>
    <defs><path d="{d[0]}" id="path-1"></path></defs>
    <g id="Page-1" stroke="none" stroke-width="1" fill="none" fill-rule="evenodd">
        <g id="icon" transform="translate(-{side}.000000, -{side * 2}.000000)" fill="#4A90E2">
            <g id="Group" transform="translate({side}.000000, {side * 2}.000000)">
                <g transform="translate({x:.6f}, {y:.6f}) rotate(-45.000000) translate(-{x:.6f}, -{y:.6f}) ">
                    <path d="{d[1]}" id="Shape"></path>
                    <polygon id="Path" points="{points(rng, side)}"></polygon>
                </g>
                <g id="Mask"><use fill="#FFFFFF" fill-rule="evenodd" xlink:href="#path-1"></use></g>
                <path d="{d[2]}" id="Line" stroke="#979797"></path>
                <circle id="Oval" stroke="#979797" cx="{x:.7f}" cy="{y:.7f}" r="{side / 9:.7f}"></circle>
            </g>
        </g>
    </g>
</svg>"""


def minified_icon(rng: random.Random) -> str:
    side = rng.choice([16, 20, 24, 512])
    paths = "".join(
        f'<path d="{packed(commands(rng, side, upper=0.2, subpaths=4), rng.choice([1, 2, 3]))}"/>'
        for _ in range(2)
    )
    return f'<svg {NS} viewBox="0 0 {side} {side}">{paths}</svg>'


def line_icon(rng: random.Random) -> str:
    body = "".join(basic_shape(rng, 24) for _ in range(5))
    d = packed(commands(rng, 24, letters="LHVA", upper=0.3, subpaths=1))
    return (
        f'<svg {NS} width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        f'stroke-width="2" stroke-linecap="round" stroke-linejoin="round" class="feather">{body}'
        f'<path d="{d}"/></svg>'
    )


def nested_groups(rng: random.Random) -> str:
    side, body = 200, ""
    for _ in range(rng.randint(3, 9)):  # no arcs: under a skew svgelements bends them wrongly
        shape = f'<path d="{spaced(commands(rng, side, letters="LHVCSQT"))}"/>'
        shape += f'<polygon points="{points(rng, side)}"/><rect x="9" width="90" height="33.5"/>'
        body = f'<g transform="{transform(rng, side, skew=True)}">\n{shape}{body}</g>'
    return (
        f'<svg {NS} width="400" height="400" viewBox="-90 -90 400 400" fill="none" stroke="red">{body}</svg>'
    )


def uses(rng: random.Random) -> str:
    side = 100

    def place() -> str:
        return f'x="{rng.uniform(-20, 60):.2f}" y="{rng.uniform(-20, 60):.2f}"'

    return f"""<svg {NS} {XLINK} width="200" height="200" stroke="black" fill="none">
<defs><g id="a"><path d="{spaced(commands(rng, side / 2))}"/>{basic_shape(rng, side / 2)}</g></defs>
<g id="b" transform="{transform(rng, side)}"><use xlink:href="#a" {place()}/><use href="#a" {place()}/></g>
<use href="#b" {place()} transform="{transform(rng, side)}"/>
<use xlink:href="#later" {place()}/>
<path id="later" d="{packed(commands(rng, side))}"/>
<use href="#missing"/><use xlink:href="other.svg#a"/>
</svg>"""


def symbols(rng: random.Random) -> str:
    aspect = [
        f'preserveAspectRatio="{rng.choice(["none", "xMinYMax", "xMaxYMid meet", "xMidYMin", ""])}"'
        for _ in range(3)
    ]
    symbol = f'<symbol id="s" viewBox="{rng.choice(["0 0 24 24", "-5 3 30 20"])}" {aspect[0]}>'
    return f"""<svg {NS} {XLINK} viewBox="0 0 200 100" width="{rng.choice([200, 150])}" height="140"
  {aspect[1]} stroke="black" fill="none">
{symbol}{basic_shape(rng, 24)}<path d="{packed(commands(rng, 24))}"/></symbol>
<use xlink:href="#s" x="10" y="5" width="{rng.randint(20, 90)}" height="{rng.randint(20, 90)}"/>
<g transform="{transform(rng, 60)}"><use href="#s" width="90" height="40"/></g>
<svg x="20%" y="10" width="{rng.randint(30, 90)}" height="50%" viewBox="0 0 10 20" {aspect[2]}>
{basic_shape(rng, 10)}<svg x="2" y="3" width="5" height="5">{basic_shape(rng, 5)}</svg></svg>
</svg>"""


def units(rng: random.Random) -> str:
    unit, side = rng.choice(
        [("mm", 60), ("cm", 6), ("in", 3), ("pt", 150), ("pc", 12), ("px", 200), ("", 200)]
    )
    size = rng.choice(['width="4in" height="4in"', 'width="10cm" height="100mm"', 'width="400" height="400"'])
    body = "".join(basic_shape(rng, side, unit=unit) for _ in range(4))
    shares = (
        f'<line x1="10%" y1="{rng.randint(5, 90)}%" x2="90%" y2="25%"/><circle cx="50%" cy="50%" r="10%"/>'
    )
    return f'<svg {NS} {size} fill="none" stroke="#000">{body}{shares}</svg>'


def css(rng: random.Random) -> str:
    """Styles as web pages have them: CSS transforms, transform-origin, em, specificity, !important."""
    angle = rng.uniform(-90, 90)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = f"matrix({cos:.4f}, {sin:.4f}, {-sin:.4f}, {cos:.4f}, 3, -2)"
    origin = rng.choice(["center", "50% 50%", "20px 30px", "right top", "bottom", "25% 80px"])
    return f"""<svg {NS} viewBox="0 0 200 200" font-size="10"><style><![CDATA[
/* a comment {{ }} */ @media print {{ .a {{ display: none }} }}
.a, g.b {{ fill: none; stroke: black }} .a {{ transform: {turn} }}
#hidden.a {{ display: none }} rect.c {{ transform: none !important }} #d {{ transform: scale(.5, 1.2) }}
]]></style>
<path class="a" d="{spaced(commands(rng, 150))}"/>
<path class="a" id="hidden" d="M0 0L200 200"/>
{basic_shape(rng, 150, f'class="b" style="transform:{turn}; transform-origin:{origin}" stroke="black"')}
<g class="b" transform="rotate({angle:.2f})" transform-origin="{origin}">{basic_shape(rng, 100)}</g>
<rect class="c" style="transform: scale(3)" x="2em" y="1em" width="3em" height="{rng.randint(2, 8)}em"/>
<g font-size="200%"><rect id="d" x="2em" y="1em" width="1.5em" height="1em"/></g>
</svg>"""


def traced(rng: random.Random) -> str:
    """potrace: upside down, ten times too large, whole numbers."""
    side = 300
    drawn = [commands(rng, side * 10, letters="LC", upper=0.1, subpaths=3) for _ in range(3)]
    paths = "\n".join(f'<path d="{spaced(path, decimals=0, comma=" ")}"/>' for path in drawn)
    return f"""<?xml version="1.0" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 20010904//EN"
 "http://www.w3.org/TR/2001/REC-SVG-20010904/DTD/svg10.dtd">
<svg version="1.0" {NS}
 width="{side}.000000pt" height="{side}.000000pt" viewBox="0 0 {side}.000000 {side}.000000"
 preserveAspectRatio="xMidYMid meet">
<metadata>
Created by potrace 1.16, written by Peter Selinger 2001-2019
</metadata>
<g transform="translate(0.000000,{side}.000000) scale(0.100000,-0.100000)"
fill="#000000" stroke="none">
{paths}
</g>
</svg>"""


STYLES = {
    style.__name__: style
    for style in (
        *(inkscape, illustrator, figma, sketch_app, minified_icon, line_icon),
        *(nested_groups, uses, symbols, units, css, traced),
    )
}


def corpus() -> dict[str, str]:
    """name -> SVG text, `SEEDS` files of every style."""
    return {
        f"{name}-{seed:02}": style(random.Random(f"{name} {seed}"))
        for name, style in STYLES.items()
        for seed in range(SEEDS)
    }
