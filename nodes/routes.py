"""What the front end asks of the pack: which weights are here, which are coming; fetch one, cancel one.

    GET  /sketchknitter/weights           {"weights": [entry, ...]}
    POST /sketchknitter/weights/download  {"name": NAME} -> the entry
    POST /sketchknitter/weights/cancel    {"name": NAME} -> the entry

An entry is what the manifest and the disk say of a file, and under "download" how its transfer goes or why
the last one failed. While one runs, the same comes over the websocket as `downloads.EVENT`.

Whoever reaches the server can ask, without a password: so a request can name an entry of the manifest and
nothing else, no path and no address, and pages of other sites are refused.

Limits: a page that takes over a host name of the user's own (DNS rebinding) looks like the front end, to
these routes and to all others of the host; what it can do here is fetch a file of the manifest.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from . import host
from .downloads import downloads
from .load import fetch_known, weights

ROOT = "/sketchknitter/weights"
BUTTON = "button"  # who wants what was asked for here: one, however often it is pressed
MAX_BODY = 1024  # bytes


def register() -> None:
    """Adds the routes to the host's server, once: a second copy of the pack would stop the host's start."""
    server = host.server()
    if server is None or any(getattr(route, "path", None) == ROOT for route in server.routes):
        return
    server.routes.get(ROOT)(answer(listed))
    server.routes.post(f"{ROOT}/download")(answer(download))
    server.routes.post(f"{ROOT}/cancel")(answer(cancel))


def answer(handler):
    """A handler that only our pages and programs reach, and whose refusals are JSON: {"error": sentence}."""

    async def handle(request: web.Request) -> web.Response:
        try:
            refuse_other_sites(request)
            return web.json_response(await handler(request), headers={"Cache-Control": "no-store"})
        except Refused as refusal:
            return web.json_response({"error": str(refusal)}, status=refusal.status)

    return handle


class Refused(Exception):
    """A request that is not answered; the sentence says what was wanted."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def refuse_other_sites(request: web.Request) -> None:
    """Browsers say from where a request comes, in one of two headers; programs say nothing and may ask.

    Over plain HTTP to another machine browsers leave Sec-Fetch-Site out, and a proxy may change Host: so
    Origin is compared where the first is missing. The host's own check is off with --enable-cors-header.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        ours = site == "same-origin" or site == "none" and request.method == "GET"
    else:
        page = (origin or "").partition("://")[2]
        ours = origin is None or page.lower() == request.headers.get("Host", "").lower() != ""
    if not ours:
        raise Refused(403, "this comes from another site. Ask from ComfyUI's own page.")


async def asked_name(request: web.Request) -> str:
    """The manifest name in the body."""
    if request.content_type != "application/json":
        raise Refused(415, 'the body must be JSON: {"name": ...}, as application/json.')
    try:
        await request.content.readexactly(MAX_BODY + 1)
        raise Refused(413, f"the body is longer than {MAX_BODY} bytes, wanted a name alone.")
    except asyncio.IncompleteReadError as whole:
        body = whole.partial
    try:
        asked = json.loads(body)
    except (RecursionError, ValueError):
        asked = None
    if not isinstance(asked, dict) or list(asked) != ["name"] or not isinstance(asked["name"], str):
        raise Refused(400, 'wanted {"name": NAME} and nothing else, with a name of the manifest.')
    return asked["name"]


def entries() -> dict[str, dict]:
    """The manifest, what is here of it, and what is coming. Reads the disk."""
    from ..sketch_core.manifest import ALIASES, read_manifest

    manifest = read_manifest()
    found = {}
    for status in weights():
        latest = downloads.latest(status.name)
        told = status.state == "missing" and latest is not None and latest.state in ("downloading", "failed")
        entry = manifest[status.name]
        found[status.name] = {
            "name": status.name,
            "aliases": [alias for alias, name in ALIASES.items() if name == status.name],
            "for": status.purpose,
            "state": status.state,
            "bytes": status.bytes,
            "license": entry.license,
            "attribution": entry.attribution,
            "download": latest.report() if told else None,
        }
    return found


async def entry_of(name: str) -> dict:
    found = (await asyncio.to_thread(entries)).get(name)
    if found is None:
        raise Refused(404, "there is no such name in the manifest. GET this address without its last part.")
    return found


async def listed(request: web.Request) -> dict:
    return {"weights": list((await asyncio.to_thread(entries)).values())}


async def download(request: web.Request) -> dict:
    entry = await entry_of(await asked_name(request))
    if entry["state"] == "unpublished":
        raise Refused(409, f"{entry['name']} is not published yet, so there is nothing to download.")
    if entry["state"] == "missing":
        downloads.want(entry["name"], fetch_known(entry["name"]), BUTTON)
    return await entry_of(entry["name"])


async def cancel(request: web.Request) -> dict:
    entry = await entry_of(await asked_name(request))
    downloads.cancel(entry["name"])
    return await entry_of(entry["name"])
