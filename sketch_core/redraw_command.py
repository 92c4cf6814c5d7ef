"""`python -m sketch_core rectify`, `complete`, `heal`, `vary`, `interpolate`: from the user's own drawings.

Each writes SVG files on the canvas of the source, sheet.png and sketches.ndjson, as `draw` does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MAX_DRAWINGS = 100_000  # of one run


def add_verbs(verb: Callable[..., argparse.ArgumentParser], line: Any) -> None:
    """Puts the verbs into a parser.

    verb  (name, run, text, **options) -> the parser of a verb, new.
    line  the command line: its readers of options and files, files that appear whole, progress.
    """

    def sub(name: str, run: Callable, text: str, **options) -> argparse.ArgumentParser:
        parser = verb(name, lambda args: run(args, line), text, **options)
        parser.add_argument("source", metavar="IN", type=Path, help=f"{line.READABLE}, PNG or JPG")
        return parser

    one = sub("rectify", rectify, "draw a rough drawing well: same places, same strokes, a better hand")
    one.add_argument(
        "--strength",
        type=line.number(0, 1),
        default=0.5,
        help="0 the drawing itself, 0.5 points move about as far as it looks rough, 1 free (default 0.5)",
    )
    one.add_argument(
        "--follow",
        choices=["strokes", "picture"],
        default="strokes",
        help="its strokes, point by point (default), or only what it looks like, with other strokes",
    )
    _add_sampling(one, line)

    one = sub("complete", complete, "draw on where a drawing stops: given strokes stay, new ones follow")
    one.add_argument(
        "--share",
        type=line.number(0.01, 1),
        help="part of the finished drawing's longer side that is given (default: the canvas is the sheet)",
    )
    one.add_argument(
        "--detail", type=line.whole(2, 10_000), help="points of the whole (default: as people draw the class)"
    )
    _add_sampling(one, line)

    one = sub("heal", heal, "mend a drawing: gaps, erased parts, shaky lines")
    one.add_argument(
        "--gap",
        type=line.number(0, 1e6),
        help="join ends of lines that face each other and are at most so far apart, in units of the canvas "
        "(default, if nothing else is asked for: a tenth of the drawing)",
    )
    one.add_argument(
        "--erase", type=Path, metavar="MASK", help="picture, white where the drawing is drawn anew"
    )
    one.add_argument(
        "--lost", type=line.number(0, 1), metavar="SHARE", help="lose that share of the points first, a test"
    )
    one.add_argument(
        "--strength", type=line.number(0, 0.99), default=0.0, help="draw lines again: 0.1 a little, 0.4 a lot"
    )
    _add_sampling(one, line)

    one = sub("vary", vary, "draw a drawing again, a little differently")
    one.add_argument(
        "--amount", type=line.number(0, 1), default=0.3, help="0 the same, 1 another one (default 0.3)"
    )
    _add_sampling(one, line)

    one = sub("interpolate", interpolate, "draw what lies between drawings, in order")
    one.add_argument("others", metavar="IN", type=Path, nargs="*", help="more files")
    one.add_argument(
        "--count", type=line.whole(1, 1000), default=8, help="drawings between two of them (default 8)"
    )
    one.add_argument("--ends", action="store_true", help="write the given drawings as well, in their places")
    one.add_argument("--steps", type=line.whole(2, 1000), default=24, help="steps each way (default 24)")
    _add_common(one, line)


def _add_sampling(parser: argparse.ArgumentParser, line: Any) -> None:
    whole = line.whole
    parser.add_argument("--count", type=whole(1, 10_000), default=4, help="drawings of each (default 4)")
    parser.add_argument("--start", type=whole(0, 2**31 - 1), default=0, help="index of the first (default 0)")
    parser.add_argument("--seed", type=whole(0, 2**64 - 1), default=0, help="another seed, other drawings")
    parser.add_argument("--sampler", help="ddim, ddpm, heun or dpmpp_2m (default: the model's)")
    parser.add_argument("--schedule", help="uniform, quadratic, logsnr or shortcut (default: the model's)")
    parser.add_argument("--steps", type=whole(1, 1000), help="denoising steps (default: the model's)")
    parser.add_argument("--guidance", type=line.number(0, 100), help="how strongly the class is followed")
    _add_common(parser, line)


def _add_common(parser: argparse.ArgumentParser, line: Any) -> None:
    parser.add_argument(
        "--class",
        dest="class_name",
        metavar="CLASS",
        help="what it shows, or 'any' (default: what the file says, or the recognizer's guess)",
    )
    parser.add_argument("--model", default="default", help="name or .safetensors file (default: embedded)")
    parser.add_argument(
        "--pick", type=line.span, default=slice(0, None), metavar="I|A:B", help="only these drawings of IN"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of a sentence")
    line._add_out(parser, "sketches")


def rectify(args: argparse.Namespace, line: Any) -> None:
    from . import naming, rectifier

    options = {"strength": args.strength, "follow": args.follow}

    def before(model: Any, sources: Sequence) -> int:
        guide = rectifier.Guide(tuple(sources), class_name=args.class_name, **options)
        return naming.made_to_name(model, rectifier.hard_to_name(model, guide))

    def sampling_of(model: Any, sources: Sequence) -> dict[str, Any]:
        return rectifier.sampling_of(
            model, rectifier.Guide(tuple(sources), class_name=args.class_name, **options)
        )

    own = {"before": before, "sampling_of": sampling_of}
    _redraw(args, line, rectifier.rectify, options, read(args, line), **own)


def complete(args: argparse.Namespace, line: Any) -> None:
    from . import redraw

    options = {"share": args.share, "detail": args.detail}
    _redraw(args, line, redraw.complete, options, read(args, line), before=_mended_to_name(args))


def vary(args: argparse.Namespace, line: Any) -> None:
    from . import redraw

    _redraw(args, line, redraw.vary, {"amount": args.amount}, read(args, line))


def heal(args: argparse.Namespace, line: Any) -> None:
    import numpy as np

    from . import knitter, lost, redraw
    from .given import check_strokes

    sources = read(args, line)
    ways = [name for name in ("gap", "erase", "lost") if getattr(args, name) is not None]
    if len(ways) > 1:
        raise ValueError(f"--{ways[0]} and --{ways[1]} do not go together. Heal with one, then the other.")
    if args.erase is not None:
        mask = picture(args.erase)
        marked = [lost.eraser(source, mask, padding=None) for source in sources]
    elif args.lost is not None:
        marked = [
            lost.by_chance(source, args.lost, np.random.default_rng([args.seed, i]))
            for i, source in enumerate(sources)
        ]
    elif args.gap is not None or args.strength == 0:
        most = knitter.load(args.model).longest
        for source in sources:
            check_strokes(source, most)  # before every end of a line is compared with every other
        marked = [lost.gaps(source, args.gap) for source in sources]
    else:
        marked = [lost.nothing(source) for source in sources]
    if args.strength == 0 and not any(mask.any() for _, masks in marked for mask in masks):
        where = "under the mask" if args.erase else "lost: no ends of lines face each other across a gap"
        raise ValueError(f"{args.source} has nothing {where}. Give a wider --gap, --erase, or --strength.")
    options = {"lost": [masks for _, masks in marked], "strength": args.strength}
    sources = [sketch for sketch, _ in marked]
    _redraw(args, line, redraw.heal, options, sources, before=_mended_to_name(args, options["lost"]))


def _mended_to_name(args: argparse.Namespace, lost: Sequence | None = None) -> Callable[[Any, Sequence], int]:
    """How many drawings are mended first, because nobody says what they show."""
    from . import naming, redraw

    return lambda model, sources: naming.made_to_name(
        model, redraw.hard_to_name(model, sources, args.class_name, lost)
    )


def picture(path: Path):
    """(H, W) float32 in 0..1, how white and opaque a picture is."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow does not scale when it converts
                return np.asarray(image).astype(np.float32).clip(0, 65535) / 65535
            grey, alpha = image.convert("LA").split()
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}. Give a PNG or JPG.") from error
    return np.asarray(grey, np.float32) / 255 * np.asarray(alpha, np.float32) / 255


def read(args: argparse.Namespace, line: Any) -> list:
    """The drawings of the source that are asked for."""
    found = list(itertools.islice(line.read_drawings(args.source), args.pick.start, args.pick.stop))
    if not found:
        raise ValueError(f"{args.source} holds no such drawing. Check the file, or --pick.")
    return found


def _redraw(
    args: argparse.Namespace,
    line: Any,
    run: Callable,
    options: dict[str, Any],
    sources: list,
    *,
    before: Callable[[Any, Sequence], int] = lambda model, sources: 0,
    sampling_of: Callable[[Any, Sequence], dict[str, Any]] = lambda model, sources: model.sampling,
) -> None:
    """`count` drawings of each source by a verb of redraw.py or rectifier.py, written.

    before       how many more are drawn on the way to them.
    sampling_of  a model's settings unless told otherwise.
    """
    from . import knitter

    if len(sources) * args.count > MAX_DRAWINGS:
        raise ValueError(
            f"{len(sources)} drawings, {args.count} of each, are more than {MAX_DRAWINGS}. "
            f"Lower --count, or choose some with --pick."
        )
    model = knitter.load(args.model)
    given = {key: getattr(args, key) for key in ("steps", "sampler", "schedule", "guidance")}
    settings = sampling_of(model, sources) | {key: value for key, value in given.items() if value is not None}
    made = {"count": args.count, "start": args.start, "seed": args.seed}
    several = len(sources) > 1
    wanted = [(i, k) for i in range(len(sources)) for k in range(args.start, args.start + args.count)]
    names = [f"{i:03d}-{k:03d}" if several else f"{k:03d}" for i, k in wanted]

    def draw(on_step: Callable) -> list:
        return run(model, sources, class_name=args.class_name, on_step=on_step, **options, **made, **settings)

    told = {name: value for name, value in options.items() if name != "lost" and value is not None}
    records = [{"seed": args.seed, "index": k, "source": i, **told, **settings} for i, k in wanted]
    _write(args, line, model, sources, names, records, draw, None, before(model, sources))


def interpolate(args: argparse.Namespace, line: Any) -> None:
    from . import inbetween, knitter

    paths = [args.source, *args.others]
    drawings = [sketch for path in paths for sketch in line.read_drawings(path)]
    drawings = drawings[args.pick]
    if len(drawings) < 2:
        raise ValueError(f"got {len(drawings)} drawing, wanted two or more to draw between. Name another IN.")
    pairs = list(itertools.pairwise(drawings))
    total = len(pairs) * args.count + (len(drawings) if args.ends else 0)
    if total > MAX_DRAWINGS:
        raise ValueError(f"{total} drawings are more than {MAX_DRAWINGS}. Lower --count, or use --pick.")
    model = knitter.load(args.model)

    def draw(on_step: Callable) -> list:
        made = drawings[:1] if args.ends else []
        for a, b in pairs:
            made += inbetween.interpolate(
                model,
                a,
                b,
                count=args.count,
                class_name=args.class_name,
                steps=args.steps,
                on_step=on_step,
            )
            made += [b] if args.ends else []
        return made

    names = [f"{k:03d}" for k in range(total)]
    records = [{"index": k, "steps": args.steps} for k in range(total)]
    looks = args.steps * (2 * inbetween.ROUNDS + 1)  # both ends to noise, and one drawing back
    _write(args, line, model, drawings, names, records, draw, looks)


def _write(
    args: argparse.Namespace,
    line: Any,
    model: Any,
    sources: Sequence,
    names: Sequence[str],
    records: Sequence[dict],
    draw: Callable[[Callable], list],
    looks: int | None,
    more: int = 0,
) -> None:
    """Draws, writes all files or none, and says what was made; classes that were guessed are named.

    looks  steps that will be heard of a drawing, if that is known;  more  drawings made on the way.
    """
    from .data import write_ndjson
    from .naming import has_class

    files = [f"{line.file_stem(args.source.stem)}-{name}.svg" for name in names]
    files += ["sheet.png", "sketches.ndjson"]
    guessed = args.class_name is None and not all(has_class(model, source) for source in sources)
    with line.appearing(args.out, files, force=args.force) as folder:
        started = time.perf_counter()
        with line.Progress("drawing", len(names) + more) as progress:
            watch = line.Watch(progress, looks)
            sketches = draw(watch.on_step)
        seconds = time.perf_counter() - started
        for sketch, file, record in zip(sketches, files, records, strict=False):
            record = {"verb": args.verb, "model": model.name, "class": sketch.label, **record}
            (folder / file).write_text(sketch.to_svg(metadata=record), "utf-8", newline="\n")
        write_ndjson(folder / "sketches.ndjson", sketches)
        line.sheet(sketches).save(folder / "sheet.png")
    classes = list(dict.fromkeys(sketch.label or "any class" for sketch in sketches))
    calls = sum(watch.calls) / len(sketches)
    beyond = sum(map(off_canvas, sketches))
    if args.json:
        report = {"model": model.name, "verb": args.verb, "sketches": len(sketches), "classes": classes}
        report |= {
            "guessed": guessed,
            "off_canvas": beyond,
            "seconds": round(seconds, 3),
            "network_calls": round(calls, 2),
        }
        sys.stdout.write(json.dumps(report | {"folder": str(args.out), "files": files}) + "\n")
        return
    shown = ", ".join(classes[:5]) + (" ..." if len(classes) > 5 else "")
    how = "the recognizer's guess; --class says otherwise" if guessed else "class"
    sys.stdout.write(
        f"{model.name}: {len(sketches)} {'sketch' if len(sketches) == 1 else 'sketches'} of {shown} ({how}) "
        f"in {seconds:.2f} s, {calls:.3g} network calls a sketch, written to {args.out}\n"
    )
    if beyond:
        hint = "; a larger --share makes what is added smaller" if args.verb == "complete" else ""
        sys.stdout.write(f"{beyond} of them reach beyond the canvas of {args.source.name}{hint}\n")


def off_canvas(sketch: Any) -> bool:
    """Whether a drawing has points beyond its canvas, by more than a hundredth of it."""
    import numpy as np

    points = np.concatenate(sketch.strokes)
    slack = max(sketch.canvas) / 100
    return bool((points < -slack).any() or (points > np.add(sketch.canvas, slack)).any())
