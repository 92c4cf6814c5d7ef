"""The command line: `python -m sketch_core draw cat`, and the other verbs of `--help`.

Every verb imports what it needs when it runs, so `--help`, `classes` and `convert` do not wait for torch.
Files appear whole or not at all, and none is overwritten without --force. Bad input is one line on standard
error and exit status 1 (2 when the command itself is malformed, 130 after Ctrl-C).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import redraw_command
from .arguments import Parser

MAX_DRAWINGS = 100_000  # of one run
SHEET_MAX = 1024  # drawings on a sheet.png; the files beside it hold all
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}
READABLE = "SVG, ndjson, npz, bin, PNG or JPG"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(argv)
        sys.stdout.flush()  # a full disk behind `> file` shows here
        return status
    except KeyboardInterrupt:
        return _fail("stopped.", 130)
    except BrokenPipeError:  # the reader of our output has left: `classes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("sketch_core"):
            raise
        return _fail(
            f"{error.name} is not installed. Install all that is needed: pip install '.[standalone]'"
        )
    except MemoryError:
        return _fail("not enough memory for this. Ask for fewer or smaller drawings.")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}.")
    except ValueError as error:
        return _fail(str(error))


def _run(argv: list[str]) -> int:
    if argv and argv[0] in PASSED_ON:  # these have a parser of their own
        return PASSED_ON[argv[0]][1](argv[1:]) or 0
    args = build_parser().parse_args(argv)
    args.run(args)
    return 0


def _fail(message: str, status: int = 1) -> int:
    print(f"sketch_core: {' '.join(message.split())}", file=sys.stderr)
    return status


# ---- draw ----------------------------------------------------------------------------------------


def draw(args: argparse.Namespace) -> None:
    from . import knitter, samplers
    from .data import write_ndjson

    given = {key: getattr(args, key) for key in ("steps", "sampler", "schedule", "guidance", "detail")}
    shortcut = chosen_shortcut(args)
    model = knitter.load(args.model)
    names = choose_classes(args.classes, model)
    if len(names) * args.count > MAX_DRAWINGS:
        raise ValueError(
            f"{len(names)} classes of {args.count} sketches are {len(names) * args.count} drawings, "
            f"wanted at most {MAX_DRAWINGS}. Lower --count, or name fewer classes."
        )
    settings = model.sampling | {key: value for key, value in given.items() if value is not None}
    policy = {} if shortcut is None else {"schedule": shortcut}
    told = settings if shortcut is None else settings | {"schedule": str(shortcut), "steps": None}
    looks = samplers.looks(settings["sampler"], settings["steps"])
    indices = range(args.start, args.start + args.count)
    wanted = [(name, i) for name in names for i in indices]
    files = [f"{file_stem(name)}-{i:03d}.svg" for name, i in wanted]
    files += ["sheet.png", "sketches.ndjson"]
    with appearing(args.out, files, force=args.force) as folder:
        started = time.perf_counter()
        with Progress("drawing", len(wanted)) as progress:
            watch = Watch(progress, None if shortcut is not None else looks)
            options = {"count": args.count, "start": args.start, "seed": args.seed, **settings, **policy}
            sketches = model.draw(names, on_step=watch.on_step, **options)
        seconds = time.perf_counter() - started
        for sketch, file, (name, i) in zip(sketches, files, wanted, strict=False):
            record = {"model": model.name, "class": name, "seed": args.seed, "index": i, **told}
            (folder / file).write_text(sketch.to_svg(metadata=record), "utf-8", newline="\n")
        write_ndjson(folder / "sketches.ndjson", sketches)
        sheet(sketches).save(folder / "sheet.png")
    calls = sum(watch.calls) / len(sketches)
    if args.json:
        report = {"model": model.name, "sketches": len(sketches), "seconds": round(seconds, 3)}
        report |= {"network_calls": round(calls, 2), "seed": args.seed, "start": args.start, **told}
        print(json.dumps(report | {"folder": str(args.out), "files": files}))
    else:
        low, high = min(watch.calls), max(watch.calls)
        spread = "" if low == high else f" ({low:g} to {high:g})"
        print(
            f"{model.name}: {len(sketches)} {'sketch' if len(sketches) == 1 else 'sketches'} "
            f"in {seconds:.2f} s, {calls:.3g} network calls a sketch{spread}, written to {args.out}"
        )


def chosen_shortcut(args: argparse.Namespace):
    """The paper's shortcut, if --threshold or --jump asks for it; what does not go together is said."""
    if args.threshold is None and args.jump is None:
        return None
    if args.schedule not in (None, "shortcut"):
        raise ValueError(f"--threshold and --jump belong to the shortcut, not to --schedule {args.schedule}.")
    if args.steps is not None:
        raise ValueError("with --threshold or --jump a sketch takes as many steps as it needs. Omit --steps.")
    from .shortcut import Shortcut

    options = {"threshold": args.threshold, "m": args.jump}
    return Shortcut(**{name: value for name, value in options.items() if value is not None})


class Watch:
    """Counts the network calls of each sketch (guided steps take two) and moves the progress line.

    looks  steps that will be heard of a sketch; None: nobody knows, so its time tells how far it is.
    """

    def __init__(self, progress: Progress, looks: int | None):
        self.progress, self.looks = progress, looks
        self.calls: list[float] = []
        self.first = self.steps = 0

    def on_step(self, step) -> None:
        if step.index == 0:
            self.first = len(self.calls)
            self.calls += [0.0] * len(step.active)
        for i, calls in zip(step.active.tolist(), step.prediction.calls.tolist(), strict=True):
            self.calls[self.first + i] += calls
        self.steps += len(step.active)
        left = None if self.looks else float(step.t.sum())
        self.progress.show(self.steps / self.looks if left is None else len(self.calls) - left)


def sheet(sketches: list, cell: int = 128):
    """PIL image of the first SHEET_MAX drawings: eight a row, near a square when they are many."""
    from .raster import contact_sheet

    sketches = sketches[:SHEET_MAX]
    columns = min(len(sketches), max(8, math.ceil(math.sqrt(len(sketches)))))
    return contact_sheet(sketches, columns=columns, cell=cell)


def choose_classes(text: str, model) -> list[str]:
    """The classes that a name, a comma list or 'all' stands for, in that order, each once."""
    if text.strip().lower() == "all":
        return model.classes
    names = [part for part in text.split(",") if part.strip()]
    if not names:
        raise ValueError(
            f"no class in {text!r}. Name one, a comma list, or all: `python -m sketch_core classes`."
        )
    return list(dict.fromkeys(model.classes[model.label(name)] for name in names))


def file_stem(label: str) -> str:
    """A class name as the start of a file name: "alarm clock" -> "alarm_clock"."""
    return re.sub(r"[^\w-]+", "_", label).strip("_") or "sketch"


# ---- classes, recognize, convert, data fetch -----------------------------------------------------


def classes(args: argparse.Namespace) -> None:
    from .hub import read_metadata

    names = read_metadata(args.model).classes
    print(json.dumps(list(names)) if args.json else "\n".join(names))


def recognize(args: argparse.Namespace) -> None:
    drawings = [(path, i, sketch) for path in args.files for i, sketch in enumerate(read_drawings(path))]
    from .recognizer import load_recognizer, recognizer_by

    recognizer = recognizer_by(args.by) if args.model is None else load_recognizer(args.model)
    top = min(args.top, len(recognizer.classes))
    guesses = recognizer.recognize([sketch for _, _, sketch in drawings], top_k=top)
    rows = [
        {
            "file": str(path),
            "index": i,
            "guesses": [{"label": name, "score": round(float(p), 4)} for name, p in best],
        }
        for (path, i, _), best in zip(drawings, guesses, strict=True)
    ]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        where = (
            f"{row['file']}:{row['index']}"
            if row["index"] or Path(row["file"]).suffix != ".svg"
            else row["file"]
        )
        print(f"{where}  " + ", ".join(f"{guess['label']} {guess['score']:.2f}" for guess in row["guesses"]))


def convert(args: argparse.Namespace) -> None:
    source, target, pick = args.source, args.target, args.pick
    write = _writer(target)
    if write is not _write_folder and not args.force and os.path.lexists(target):
        raise ValueError(f"{target} exists already. Add --force to overwrite it, or choose another name.")
    sketches = itertools.islice(read_drawings(source), pick.start, pick.stop)
    first = list(itertools.islice(sketches, 1))
    if not first:
        raise ValueError(f"{source} holds no drawing to convert. Check the file, or --pick.")
    written = write(target, itertools.chain(first, sketches), args)
    print(f"{written} {'sketch' if written == 1 else 'sketches'} written to {target}")


def _writer(target: Path) -> Callable[[Path, Iterator, argparse.Namespace], int]:
    """What writes a file of that name: (target, sketches, args) -> how many."""
    from .data import write_sketches

    name = target.name.lower()
    if name.endswith(".svg"):
        return _write_svg
    if name.endswith(".png"):
        return _write_png
    if name.endswith(".npz"):
        return lambda target, sketches, args: write_sketches(target, map(quickdraw_form, sketches))
    if name.endswith((".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")):
        return lambda target, sketches, args: write_sketches(target, sketches)
    if target.suffix and not target.is_dir():
        raise ValueError(
            f"cannot write {target.name}. Give .svg, .ndjson, .npz or .png, or a folder for SVGs."
        )
    return _write_folder


def _write_svg(target: Path, sketches: Iterator, args: argparse.Namespace) -> int:
    from .data.records import replacing

    sketch, *others = itertools.islice(sketches, 2)
    if others:
        raise ValueError(
            f"{args.source} holds several drawings and {target.name} one. "
            f"Choose one with --pick, or give a folder (a name without a suffix)."
        )
    with replacing(target) as file:
        file.write(_svg(sketch, args).encode())
    return 1


def _write_folder(target: Path, sketches: Iterator, args: argparse.Namespace) -> int:
    sketches = list(sketches)
    names = [
        f"{file_stem(sketch.label or args.source.stem)}-{i:03d}.svg"
        for i, sketch in enumerate(sketches, args.pick.start)
    ]
    with appearing(target, names, force=args.force) as folder:
        for name, sketch in zip(names, sketches, strict=True):
            (folder / name).write_text(_svg(sketch, args), "utf-8", newline="\n")
    return len(names)


def _svg(sketch, args: argparse.Namespace) -> str:
    return sketch.to_svg(size=args.size, smooth=args.smooth)


def _write_png(target: Path, sketches: Iterator, args: argparse.Namespace) -> int:
    from .data.records import replacing

    sketches = list(itertools.islice(sketches, SHEET_MAX))
    image = (
        sketches[0].to_image(args.size or 512) if len(sketches) == 1 else sheet(sketches, args.size or 128)
    )
    with replacing(target) as file:
        image.save(file, "PNG")
    return len(sketches)


def quickdraw_form(sketch):
    """The drawing on Quick, Draw!'s canvas of 0..255: fitted, unless it is there already."""
    from .strokes import QUICKDRAW_CANVAS, fit

    return sketch if sketch.canvas == QUICKDRAW_CANVAS else fit(sketch, QUICKDRAW_CANVAS)


def fetch(args: argparse.Namespace) -> None:
    from .data.fetch import fetch_class

    for name in [part.strip() for part in args.classes.split(",") if part.strip()]:
        with Progress(f"fetching {name}", 1) as progress:

            def on_progress(done: int, total: int | None, progress=progress) -> None:
                progress.show(done / total if total else 0)

            path = fetch_class(name, args.out, format=args.format, force=args.force, on_progress=on_progress)
        print(path)


def train(argv: list[str]) -> int | None:
    from .train.command import main as train_main

    return train_main(argv)


def evaluate(argv: list[str]) -> int | None:
    if argv[:1] == ["repairs"]:
        from .evaluate.repairs import main as repairs_main

        return repairs_main(argv[1:])
    from .evaluate import main as evaluate_main

    return evaluate_main(argv)


def weights(argv: list[str]) -> int:
    from .weights_command import main as weights_main

    return weights_main(argv, Parser(prog="python -m sketch_core weights"), Progress)


PASSED_ON = {
    "train": (
        "train a model on stroke files (`train recognizer`: the recognizer), see `train --help`",
        train,
    ),
    "evaluate": (
        "measure a model against real drawings, see `evaluate --help`; `evaluate repairs`: what rectifying, "
        "healing and completing give back",
        evaluate,
    ),
    "weights": ("list, fetch, verify and publish weight files, see `weights --help`", weights),
}


def read_drawings(path: Path) -> Iterator:
    """The sketches of a file; a picture is traced, an unknown suffix is refused in a sentence."""
    from .data import read_sketches

    if path.suffix.lower() in PICTURES:
        from .trace import trace_file

        sketch = trace_file(path).sketch
        if not sketch.strokes:
            raise ValueError(f"{path} shows no lines. Give a picture of a drawing, or {READABLE}.")
        return iter([sketch])
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Give a file: {READABLE}.")
    return read_sketches(path)


# ---- files that appear whole, progress -----------------------------------------------------------


@contextmanager
def appearing(folder: Path, names: Sequence[str], *, force: bool) -> Iterator[Path]:
    """A folder to write `names` into: they appear in `folder` when the block ends well, none when it fails.

    What stands in the way (a file of that name, a folder that cannot be written) is said before it runs.
    """
    from .data.records import unwritable

    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is a file, wanted a folder. Choose another one with --out.")
    taken = [name for name in names if os.path.lexists(folder / name)]
    blocked = taken if not force else [name for name in taken if (folder / name).is_dir()]
    if blocked:
        more = f" (and {len(blocked) - 1} more)" if len(blocked) > 1 else ""
        advice = "Choose another folder" if force else "Add --force to overwrite, or choose another folder"
        raise ValueError(f"{folder / blocked[0]} exists already{more}. {advice}.")
    stage = nearest / f".sketches-{secrets.token_hex(4)}"
    try:
        stage.mkdir()
        yield stage
        if nearest == folder:
            for name in names:
                os.replace(stage / name, folder / name)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            stage.rename(folder)
    except (OSError, ValueError) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(reason, OSError):
            raise
        raise unwritable(folder, reason) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


class Progress:
    """One line on a terminal's standard error, rewritten ten times a second; silent in a pipe."""

    def __init__(self, what: str, total: float):
        self.what, self.total = what, total
        self.live = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def show(self, done: float) -> None:
        now = time.monotonic()
        if not self.live or now - self.shown < 0.1:
            return
        self.shown = now
        share = min(max(done / self.total, 0.0), 1.0)
        left = f"{(now - self.started) * (1 / share - 1):.0f} s left" if share > 0.02 else ""
        bar = "#" * round(24 * share)
        print(f"\r{self.what} [{bar:<24}] {share:4.0%} {left:<12}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_) -> None:
        if self.live:
            print("\r" + " " * (len(self.what) + 48) + "\r", end="", file=sys.stderr, flush=True)


# ---- the parser ----------------------------------------------------------------------------------


def whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return read


def span(text: str) -> slice:
    """ "3" -> the fourth drawing, "0:16" -> the first sixteen, "16:" -> all after them."""
    match = re.fullmatch(r"(\d{0,9})(:(\d{0,9}))?", text)
    if not match or not text or (match[2] is None and not match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not an index like 3 or a span like 0:16")
    start = int(match[1] or 0)
    stop = start + 1 if match[2] is None else int(match[3]) if match[3] else None
    return slice(start, stop)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m sketch_core",
        description="Draws vector sketches stroke by stroke. `draw cat` writes SVG files into ./sketches.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: Callable, text: str, into=verbs, **options) -> argparse.ArgumentParser:
        sub = into.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **options)
        sub.set_defaults(run=run)
        return sub

    sub = verb(
        "draw",
        draw,
        "draw sketches of a class into a folder",
        epilog="Writes DIR/CLASS-000.svg and so on, DIR/sheet.png and DIR/sketches.ndjson. Sketch i of a "
        "class and a seed is the same drawing however many are drawn with it.",
    )
    sub.add_argument("classes", metavar="CLASS", help="a class, a comma list of classes, or all")
    sub.add_argument("--count", type=whole(1, 10_000), default=16, help="sketches of each class (default 16)")
    sub.add_argument(
        "--start", type=whole(0, 2**31 - 1), default=0, help="index of the first one (default 0)"
    )
    sub.add_argument(
        "--seed", type=whole(0, 2**64 - 1), default=0, help="another seed, other drawings (default 0)"
    )
    sub.add_argument(
        "--model", default="default", help="name or .safetensors file (default: the embedded one)"
    )
    sub.add_argument("--sampler", help="ddim, ddpm, heun or dpmpp_2m (default: the model's)")
    sub.add_argument(
        "--schedule",
        help="spacing of the steps: uniform, quadratic, logsnr or shortcut (default: the model's)",
    )
    sub.add_argument("--steps", type=whole(1, 1000), help="denoising steps (default: the model's)")
    sub.add_argument(
        "--threshold",
        type=number(0, 1),
        help="shortcut: jump until a sketch is so recognizable, then single steps of 1/1000 (0.5)",
    )
    sub.add_argument(
        "--jump", type=whole(1, 1000), help="shortcut with a threshold: steps of 1/1000 a jump (50)"
    )
    sub.add_argument(
        "--guidance", type=number(0, 100), help="how strongly the class is followed; 1 = not guided"
    )
    sub.add_argument(
        "--detail", type=whole(1, 10_000), help="points of a drawing (default: as people draw the class)"
    )
    _add_out(sub, "sketches")
    sub.add_argument("--json", action="store_true", help="print a JSON object instead of a sentence")

    redraw_command.add_verbs(verb, sys.modules[__name__])

    sub = verb("classes", classes, "list what a model can draw")
    sub.add_argument(
        "--model", default="default", help="name or .safetensors file (default: the embedded one)"
    )
    sub.add_argument("--json", action="store_true", help="print a JSON list")

    sub = verb("recognize", recognize, "say what drawings show")
    sub.add_argument("files", metavar="FILE", nargs="+", type=Path, help=READABLE)
    sub.add_argument("--top", type=whole(1, 1000), default=3, help="guesses a drawing (default 3)")
    way = sub.add_mutually_exclusive_group()
    way.add_argument(
        "--by",
        choices=["pictures", "strokes", "both"],
        default="pictures",
        help="what is looked at: the picture (default), the strokes in their order, or both, averaged",
    )
    way.add_argument("--model", help="name or .safetensors file of another recognizer")
    sub.add_argument("--json", action="store_true", help="print a JSON list")

    sub = verb("convert", convert, "turn drawings into another file format")
    sub.add_argument("source", metavar="IN", type=Path, help=READABLE)
    sub.add_argument(
        "target",
        metavar="OUT",
        type=Path,
        help=".svg, .ndjson, .npz or .png, or a folder for one SVG a drawing",
    )
    sub.add_argument(
        "--pick", type=span, default=slice(0, None), metavar="I|A:B", help="only these, counted from 0"
    )
    sub.add_argument(
        "--size", type=whole(8, 8192), help="longest side of SVG or PNG in pixels (of a cell on a sheet)"
    )
    sub.add_argument("--smooth", action="store_true", help="curves through the points (SVG)")
    sub.add_argument("--force", action="store_true", help="overwrite files that exist")

    groups = verbs.add_parser("data", help="get drawings to train on").add_subparsers(
        metavar="VERB", required=True
    )
    sub = verb("fetch", fetch, "download classes from Google's public Quick, Draw! files", into=groups)
    sub.add_argument("classes", metavar="CLASS", help="a class or a comma list of classes")
    sub.add_argument(
        "--format", choices=["npz", "ndjson", "raw", "bin"], default="npz", help="file format (default npz)"
    )
    _add_out(sub, "data")

    for name, (text, _) in PASSED_ON.items():
        verbs.add_parser(name, help=text, add_help=False)
    return parser


def _add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path(default), metavar="DIR", help=f"folder (default {default})"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


if __name__ == "__main__":
    sys.exit(main())
