"""Reports for people: tables of text, with the protocol above the figures."""

from __future__ import annotations

from collections.abc import Sequence

from ..raster import contact_sheet
from ..strokes import Sketch
from .figures import figures_of
from .measuring import Real
from .protocol import judge_note

SET_ROWS = (  # name in a report, words, digits
    ("precision", "precision (real: valid, test)", 3),
    ("recall", "recall (real: valid, test)", 3),
    ("density", "density (real: valid, test)", 3),
    ("coverage", "coverage (real: valid, test)", 3),
    ("fid", "FID (real: valid, test)", 2),
    ("kid", "KID (real: valid, test)", 4),
    ("geometry", "Geometry Score x 1000, 28 px", 2),
    ("inception_precision", "Inception precision", 3),
    ("inception_recall", "Inception recall", 3),
    ("inception_density", "Inception density", 3),
    ("inception_coverage", "Inception coverage", 3),
    ("inception_fid", "Inception FID", 2),
    ("inception_kid", "Inception KID", 5),
)


def heading(report: dict) -> str:
    """The protocol and the settings of a report, in a few lines."""
    p, s = report["protocol"], report["settings"]
    seeds = ", ".join(str(seed) for seed in p["seeds"])
    own = judge_note("recognizer")["sha256"] == p["judge"]["sha256"]
    note = "; the embedded recognizer: no judge of what was chosen or trained with it" if own else ""
    versions = ", ".join(f"{name} {version}" for name, version in p["versions"].items())
    settings = ", ".join(f"{name} {s[name]}" for name in s if not name.startswith("model"))
    lines = [
        f"model  {s['model']}, sha256 {s['model_sha256'][:16]}; {settings}",
        f"judge  {p['judge']['file']}, sha256 {p['judge']['sha256'][:16]}{note}",
        f"data   sha256 {p['data'][:16]}; real drawings chosen by seed {p['choice']}, drawn by seed {seeds}",
        f"with   {versions}",
    ]
    if p["inception"]:
        lines.append(f"Inception  sha256 {p['inception'][:16]}, drawings at 256 pixels with lines of 6")
    if report.get("calls") is not None:
        asked = f" and {report['shortcut_calls']:.4g} of the shortcut's" if report["shortcut_calls"] else ""
        lines.append(
            f"cost   {report['calls']:.4g} network calls a sketch{asked}, {report['seconds_a_sketch']:.3g} s "
            f"by the clock, {report['cpu_seconds_a_sketch']:.3g} s of processor"
        )
    return "\n".join(lines) + "\n\n"


def table(report: dict) -> str:
    """The report for people: figures, bars, classes."""
    r = report
    low, high = r["per_class_count"]
    each = str(low) if low == high else f"{low} to {high}"
    seeds = f", {r['seeds']} seeds" if r["seeds"] > 1 else ""
    lines = [f"{r['drawings']} drawings, {r['classes']} classes, {each} each{seeds}", ""]
    lines.append(f"{'':34}{'model':>10}{'real':>10}{'ratio':>8}")

    def line(name: str, fake: float, real: float, digits: int, ratio: float | None, flat: str = "") -> None:
        share = " " * 8 if ratio is None else number(ratio, 8, 2)
        text = f"{name:34}{number(fake, 10, digits)}{number(real, 10, digits)}{share}"
        for words, found in (("", r.get("intervals", {})), ("real ", r.get("floor_intervals", {}))):
            if flat in found:
                text += (
                    f"   {words}{number(found[flat][0], 0, digits)} to {number(found[flat][1], 0, digits)}"
                )
        lines.append(text.rstrip())

    line("top-1", r["top1"]["fake"], r["top1"]["real"], 3, r["top1"]["ratio"], "top1")
    for name, words, digits in SET_ROWS:
        if name in r:
            line(words, r[name]["fake"], r[name]["floor"], digits, r[name].get("ratio"), name)
    for name, digits in (("strokes", 2), ("ink", 0), ("points", 1)):
        line(name, r[name]["fake"], r[name]["real"], digits, r[name]["ratio"])
    for space, sides in r["nearest"].items():
        for name, words in (("median", "median"), ("p5", "5th percentile")):
            fake, real = sides["fake"][name], sides["real"][name]
            line(f"nearest {space}, {words}", fake, real, 3, fake / real if real else None)
            low, high = sides["real_interval"][name]
            lines[-1] += f"   valid {sides['floor'][name]:.3f}, 95 % of real {low:.3f} to {high:.3f}"
    low, high = r["top1"]["fake_interval"]
    lines += [f"95 % interval of top-1: {low:.3f} to {high:.3f}; empty drawings: {r['empty']}", ""]
    for bar in r["bars"]:
        limits = [f">= {bar['low']:g}"] if bar["low"] is not None else []
        limits += [f"<= {bar['high']:g}"] if bar["high"] is not None else []
        verdict = "met " if bar["met"] else "MISS"
        lines.append(f"{verdict}  {bar['name']:40}{number(bar['value'], 8, 3)}  {', '.join(limits)}")
    return "\n".join(lines) + "\n\n" + folds_table(r["folds"]) + "\n" + classes_table(r["by_class"])


def folds_table(folds: Sequence[dict]) -> str:
    """SketchKnitter's folds by mean points; each figure beside that of real drawings."""
    names = (("top-1", None, 3), ("FID", "fid", 2), ("precision", "precision", 3), ("recall", "recall", 3))
    lines = [f"{'fold (classes, mean points)':28}" + "".join(f"{name:>18}" for name, _, _ in names)]
    for fold in folds:
        row = f"{fold['fold']} ({fold['classes']}, {fold['mean_points']:.0f})"
        cells = []
        for _, name, digits in names:
            pair = (fold["top1_fake"], fold["top1_real"])
            pair = pair if name is None else (fold[name]["fake"], fold[name]["floor"])
            cells.append(" / ".join(number(value, 0, digits) for value in pair))
        lines.append(f"{row:28}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines) + "\n"


def classes_table(classes: Sequence[dict]) -> str:
    lines = [f"{'class':26}{'top-1':>7}{'real':>7}{'strokes':>9}{'ink':>7}{'nearest':>9}  taken for"]
    for c in classes:
        figures = [
            ("top1_fake", 7),
            ("top1_real", 7),
            ("strokes_ratio", 9),
            ("ink_ratio", 7),
            ("nearest_ratio", 9),
        ]
        row = "".join(number(c[name], width, 2) for name, width in figures)
        lines.append(f"{c['class'][:25]:26}{row}  {c['taken_for'] or ''}")
    return "\n".join(lines) + "\n"


COLUMNS = (  # of a sweep: flat name, heading, width, digits
    ("calls", "calls", 8, 1),
    ("shortcut_calls", "asked", 8, 1),  # the network of a shortcut
    ("seconds_a_sketch", "s", 8, 3),
    ("top1_share", "top-1/real", 12, 3),
    ("precision", "precision", 11, 3),
    ("recall", "recall", 9, 3),
    ("density", "density", 9, 3),
    ("coverage", "coverage", 10, 3),
    ("fid", "FID", 9, 2),
    ("kid", "KID x 1000", 12, 2),
)


def sweep_table(runs: Sequence[dict]) -> str:
    """A line a run, a second one with the halves of its 95 % intervals where it has them; real at the end."""
    labels = run_labels(runs)
    width = max(len("setting"), *(len(label) for label in labels)) + 2
    asks = any(run.get("shortcut_calls") for run in runs)
    columns = [column for column in COLUMNS if asks or column[0] != "shortcut_calls"]
    lines = [f"{'setting':{width}}" + "".join(f"{words:>{w}}" for _, words, w, _ in columns)]

    def cells(flat: dict, suffix: str = "") -> str:
        scaled = {name: 1000 * value if name == "kid" else value for name, value in flat.items()}
        return "".join(
            number(scaled[name], w, digits) if name in scaled else " " * w for name, _, w, digits in columns
        )

    for label, run in zip(labels, runs, strict=True):
        lines.append(f"{label:{width}}" + cells(figures_of(run)))
        if "intervals" in run:
            halves = {name: (high - low) / 2 for name, (low, high) in run["intervals"].items()}
            lines.append(f"{'  +/-':{width}}" + cells(halves))
    flat = figures_of(runs[0])
    floor = {name.removesuffix("_floor"): value for name, value in flat.items() if name.endswith("_floor")}
    lines.append(f"{'real (valid against test)':{width}}" + cells(floor | {"top1_share": 1.0}))
    return "\n".join(lines) + "\n"


def run_labels(runs: Sequence[dict]) -> list[str]:
    """What tells runs apart: those of their settings in which they differ, all of them for one run alone."""
    settings = [run["settings"] for run in runs]
    files = {(s["model"], s["model_sha256"]) for s in settings}
    if len(files) > len({name for name, _ in files}):  # several weights under one file name
        settings = [s | {"model": f"{s['model']} {s['model_sha256'][:8]}"} for s in settings]
    names = [name for name in settings[0] if name != "model_sha256"]
    names = [name for name in names if len({str(s.get(name)) for s in settings}) > 1] or names
    plain = {"sampler", "schedule", "model"}  # their values need no name before them
    told = [{n: s[n] for n in names if s.get(n) is not None} for s in settings]
    return [" ".join(f"{v}" if n in plain else f"{n} {v}" for n, v in s.items()) for s in told]


def differences_table(rows: Sequence[dict]) -> str:
    """What `differences` found, a line a figure."""
    lines = [f"{'figure':22}{'this':>11}{'that':>11}{'difference':>12}   95 % of paired differences"]
    for row in rows:
        text = f"{row['figure']:22}" + "".join(number(row[name], 11, 4) for name in ("ours", "theirs"))
        text += number(row["difference"], 12, 4)
        if row["interval"] is not None:
            text += f"   {row['interval'][0]:.4f} to {row['interval'][1]:.4f}"
            text += {True: "   better", False: "   WORSE", None: ""}[row["better"]]
        lines.append(text)
    return "\n".join(lines) + "\n"


def number(value: float | None, width: int, digits: int) -> str:
    """None is how a report writes a number without bounds."""
    return f"{'inf':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def sheet(sketches: Sequence[Sketch], real: Real, *, columns: int = 10):
    """PIL image: a row a class, its first drawings, each captioned with what the judge takes it for."""
    columns, chosen, at = min(columns, *real.counts), [], 0
    for count in real.counts:
        chosen += sketches[at : at + columns]
        at += count
    found = real.judge.read(chosen)[1].argmax(1)
    captions = [real.judge.classes[c] for c in found]
    return contact_sheet(chosen, columns=columns, cell=96, captions=captions)
