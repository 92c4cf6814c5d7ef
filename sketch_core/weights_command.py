"""`python -m sketch_core weights`: what is here, fetch what is not, check it, publish one's own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import hub, ledger
from .manifest import ALIASES, PURPOSES, read_manifest
from .weight_source import in_folders


def main(argv: Sequence[str], parser: argparse.ArgumentParser, progress: Callable) -> int:
    """Runs one verb and returns the exit status.

    parser    empty; gets the verbs.
    progress  (what, total) -> a context whose `show(done)` moves a line on a terminal, silent in a pipe.
    """
    add_verbs(parser)
    args = parser.parse_args(argv)
    return args.run(args, progress) or 0


def list_all(args: argparse.Namespace, progress: Callable) -> None:
    """A line for every file that the pack knows."""
    found = hub.list_weights(folders=args.folder)
    manifest = read_manifest()
    if args.json:
        rows = [
            {
                "name": one.name,
                "for": one.purpose,
                "state": one.state,
                "bytes": one.bytes,
                "path": None if one.path is None else str(one.path),
                "license": manifest[one.name].license,
            }
            for one in found
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    also = {full: alias for alias, full in ALIASES.items()}
    rows = [
        (
            one.name + (f" ({also[one.name]})" if one.name in also else ""),
            PURPOSES[one.purpose],
            one.state,
            hub.readable_size(one.bytes),
        )
        for one in found
    ]
    sys.stdout.write(table(("NAME", "WHAT IT DOES", "STATE", "SIZE"), rows))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, the last one flush right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ""
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells[-1] = line[-1].rjust(widths[-1])
        text += "  ".join(cells).rstrip() + "\n"
    return text


def fetch(args: argparse.Namespace, progress: Callable) -> None:
    """Downloads what is not here yet; prints where it is."""
    with progress(f"fetching {args.name}", 1) as line:

        def on_progress(at: hub.Progress) -> None:
            line.show(at.done / at.total if at.total else 0)

        options = {"folders": args.folder, "on_progress": on_progress}
        if "/" not in args.name:
            if args.scale is not None or args.label is not None:
                raise ValueError("--scale and --label are for checkpoints of a repository. Leave them out.")
            path = hub.fetch_weights(args.name, **options)
        else:
            options |= {"scale": args.scale, "label": args.label}
            path = hub.fetch_from_hub(*_repository_file(args.name), **options)
    sys.stdout.write(f"{path}\n")


def _repository_file(text: str) -> tuple[str, str, str | None]:
    """OWNER/NAME/FILE[@REVISION] -> (OWNER/NAME, FILE, REVISION)."""
    text, _, revision = text.partition("@")
    owner, name, filename = (text.split("/", 2) + ["", ""])[:3]
    if not filename:
        raise ValueError(f"{text!r} is no file of a repository. Give OWNER/NAME/FILE, @REVISION behind it.")
    return f"{owner}/{name}", filename, revision or None


def verify(args: argparse.Namespace, progress: Callable) -> int:
    """Hashes all that is here anew; exit status 1 where something is not what it should be."""
    for name in args.accept:
        if not ledger.pinned(name):
            raise ValueError(f"{name!r} was never fetched here. Give the file name that verify complains of.")
        _accept(name, args.folder)
    found = hub.verify_weights(folders=args.folder)
    if args.json:
        rows = [
            {"name": one.name, "path": str(one.path), "sha256": one.sha256, "problem": one.problem}
            for one in found
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        rows = [(one.name, "ok" if one.problem is None else "WRONG", one.sha256[:12]) for one in found]
        sys.stdout.write(table(("NAME", "IS", "SHA256"), rows))
        for one in found:
            if one.problem is not None:
                sys.stderr.write(f"sketch_core: {one.problem}\n")
    return int(any(one.problem for one in found))


def _accept(filename: str, folders: Sequence[Path]) -> None:
    """Takes a file as it is now for its first download; without one, the next download is the first."""
    path = in_folders(filename, folders)
    if path is None:
        ledger.unpin(filename)
        return
    notes = ledger.pinned(filename)
    kept = {key: notes[key] for key in notes if key not in ("filename", "source_sha256")}
    ledger.pin(filename, **kept | {"sha256": hub.sha256_of(path)})


def publish(args: argparse.Namespace, progress: Callable) -> None:
    """Uploads a folder of our weight files with a model card, or shows the card."""
    from . import publish as publishing

    files = publishing.read_folder(args.source)
    if args.dry_run:
        sys.stdout.write(publishing.model_card(files, args.repo))
        return
    done = publishing.publish(files, args.repo, private=args.private)
    sys.stdout.write(f"{done.url}\n" + json.dumps(done.entries, indent=2, ensure_ascii=False) + "\n")


def add_verbs(parser: argparse.ArgumentParser) -> None:
    """Gives a parser the verbs; `parse_args(...).run(args, progress)` runs the one that was asked for."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run: Callable, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(run=run)
        return sub

    def add_folder(sub: argparse.ArgumentParser, text: str) -> None:
        sub.add_argument("--folder", type=Path, action="append", default=[], metavar="DIR", help=text)

    looked = "also look into this folder, before all others; may be given again"
    sub = verb("list", list_all, "list the weight files that the pack knows, and which are here")
    add_folder(sub, looked)
    sub.add_argument("--json", action="store_true", help="print a JSON list")

    sub = verb("fetch", fetch, "download a weight file that is not here yet, and check it")
    sub.add_argument(
        "name",
        metavar="NAME",
        help="a name of `weights list`, or OWNER/NAME/FILE[@REVISION] on the Hugging Face Hub",
    )
    add_folder(sub, "put it here (default: a cache of the user's); may be given again to look into more")
    official = "of an official SketchKnitter checkpoint: "
    sub.add_argument("--scale", type=float, help=official + "what its offsets were divided by")
    sub.add_argument("--label", help=official + "what it draws")

    sub = verb("verify", verify, "hash every weight file that is here, and say what is not what it should be")
    add_folder(sub, looked)
    sub.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="FILE",
        help="take this file as it is now for what it should be, where nobody but its first download says",
    )
    sub.add_argument("--json", action="store_true", help="print a JSON list")

    sub = verb("publish", publish, "upload your own weight files to the Hugging Face Hub, with a model card")
    sub.add_argument("source", metavar="DIR", type=Path, help="a folder of .safetensors files in our format")
    sub.add_argument("--repo", required=True, metavar="OWNER/NAME", help="made if it is not there")
    sub.add_argument("--private", action="store_true", help="make it a private repository")
    sub.add_argument("--dry-run", action="store_true", help="print the model card, upload nothing")
