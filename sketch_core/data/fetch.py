"""Fetching a class from Google's public Quick, Draw! files (CC BY 4.0), about 20 to 100 MB each.

A file appears at its place when all of it has come and its length and MD5, where the server names them, are
right. Nothing is fetched unless asked for.

Limits: no resuming; a cancelled or broken fetch starts again.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from .records import replacing, unwritable

BASE_URL = "https://storage.googleapis.com/quickdraw_dataset"
FORMATS = {
    "npz": "sketchrnn/{}.npz",
    "ndjson": "full/simplified/{}.ndjson",
    "raw": "full/raw/{}.ndjson",
    "bin": "full/binary/{}.bin",
}
CHUNK = 1 << 18  # bytes between two calls of on_progress


def fetch_class(
    name: str,
    folder: str | Path,
    *,
    format: str = "npz",
    force: bool = False,
    on_progress: Callable[[int, int | None], None] | None = None,
    base_url: str = BASE_URL,
    timeout: float = 30.0,
) -> Path:
    """Fetch the drawings of one class into `folder` and say where they are, e.g. folder/alarm_clock.npz.

    name         as Google spells it ("alarm clock", "The Eiffel Tower"); '_' is read as ' '.
    format       npz (75,000 drawings, Sketch-RNN's), ndjson (all, simplified), raw (all, in pixels), bin.
    force        replace a file that is there; otherwise that is an error.
    on_progress  called with (bytes so far, bytes in all or None); an exception it raises cancels the fetch.
    timeout      seconds without an answer.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}. Known: {', '.join(FORMATS)}.")
    name = name.replace("_", " ").strip()
    if not name or name.startswith(".") or not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        raise ValueError(
            f"class name {name!r} cannot be a file name. Give one such as 'cat' or 'alarm clock'."
        )
    if urlsplit(base_url).scheme not in ("http", "https"):
        raise ValueError(f"base_url is {base_url!r}, wanted an http or https address.")
    path = Path(folder) / (name.replace(" ", "_") + (".raw.ndjson" if format == "raw" else f".{format}"))
    if path.exists() and not force:
        raise ValueError(f"{path} is there already. Use it, or fetch it again with --force (force=True).")
    url = f"{base_url.rstrip('/')}/{FORMATS[format].format(quote(name))}"
    with _open(url, name, timeout) as response:
        total = response.headers.get("Content-Length", "")
        total = int(total) if total.isdecimal() else None
        _make_room(path, total)
        done, md5 = 0, hashlib.md5(usedforsecurity=False)
        with replacing(path) as file:
            for chunk in _chunks(response, url):
                file.write(chunk)
                md5.update(chunk)
                done += len(chunk)
                if on_progress is not None:
                    on_progress(done, total)
            if total is not None and done != total:
                raise ValueError(f"{url} broke off after {done} of {total} bytes. Fetch it again.")
            if _md5(response) not in (None, md5.digest()):
                raise ValueError(
                    f"{url} arrived damaged: its MD5 is not what the server says. Fetch it again."
                )
    return path


def _open(url: str, name: str, timeout: float) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "sketchknitter"})
    try:
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (403, 404):  # 403: what Google's storage says of a missing object to the public
            raise ValueError(
                f"unknown class {name!r}: {url} is not there ({error.code}). "
                f"See `python -m sketch_core classes` for the names."
            ) from error
        raise ValueError(f"{url} answered {error.code} {error.reason}. Try again later.") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _chunks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> ValueError:
    reason = getattr(error, "reason", None) or error
    host = urlsplit(url).hostname
    return ValueError(f"cannot reach {host} ({reason}). Check the connection, then fetch again.")


def _make_room(path: Path, total: int | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise unwritable(path, error) from error
    if total is not None and total > free:
        raise ValueError(
            f"cannot write {path}: it takes {total >> 20} MiB and {free >> 20} MiB are free. Free some space."
        )


def _md5(response: http.client.HTTPResponse) -> bytes | None:
    """What Google's storage says of the file: x-goog-hash: crc32c=..., md5=... (base64)."""
    for line in response.headers.get_all("x-goog-hash", []):
        for field in line.split(","):
            kind, _, value = field.strip().partition("=")
            if kind == "md5":
                return base64.b64decode(value)
    return None
