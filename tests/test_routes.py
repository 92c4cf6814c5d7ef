"""The routes of the pack on a real aiohttp server: what is here, start, cancel, and who is refused."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.stand_in_hub import LARGE, SOON, stand_in_hub

ROUTE = "/sketchknitter/weights"


@pytest.fixture
def fetching(pack, tmp_path, monkeypatch):
    with stand_in_hub(pack, monkeypatch, tmp_path) as state:
        yield state


def asking(pack, questions):
    """Runs `questions(client)` against a server on loopback that has the routes of the pack."""

    async def main():
        app = web.Application(client_max_size=100 << 20)
        app.add_routes(pack.host.routes)
        async with TestClient(TestServer(app)) as client:
            return await questions(client)

    return asyncio.run(asyncio.wait_for(main(), 30))


async def weights(client) -> dict:
    async with client.get(ROUTE) as reply:
        assert reply.status == 200
        return {entry["name"]: entry for entry in (await reply.json())["weights"]}


async def until(client, name, fits) -> dict:
    while not fits(entry := (await weights(client))[name]):
        await asyncio.sleep(0.02)
    return entry


def test_what_is_here_is_listed(pack, fetching):
    found = asking(pack, weights)
    states = {name: found[name]["state"] for name in (LARGE, SOON, "stroke_transformer.quickdraw345")}
    assert states == {LARGE: "missing", SOON: "unpublished", "stroke_transformer.quickdraw345": "bundled"}
    assert found["stroke_transformer.quickdraw345"]["aliases"] == ["base"]
    assert found["stroke_transformer.quickdraw345_fast"]["aliases"] == ["default"]
    assert found[LARGE]["bytes"] == fetching.bytes
    assert found[LARGE]["license"] == "CC-BY-4.0"
    assert found[LARGE]["download"] is None
    assert str(pack.host.base) not in json.dumps(found)  # where it lies is nobody's business


def test_a_download_starts_once_is_told_and_ends(pack, fetching):
    async def questions(client):
        for _ in range(2):  # pressed twice
            reply = await client.post(f"{ROUTE}/download", json={"name": LARGE})
            assert reply.status == 200
            assert (await reply.json())["download"]["state"] == "downloading"
        entry = await until(client, LARGE, lambda entry: entry["download"]["done"])
        assert entry["download"]["total"] == fetching.bytes
        fetching.go.set()
        return await until(client, LARGE, lambda entry: entry["state"] == "here")

    assert asking(pack, questions)["download"] is None
    assert fetching.asked == [(LARGE,)]
    events = [data for event, data in pack.host.pushed if event == "sketchknitter.download"]
    assert [data["state"] for data in (events[0], events[-1])] == ["downloading", "done"]
    assert {data["name"] for data in events} == {LARGE}


def test_cancel_ends_it_and_it_can_be_started_again(pack, fetching):
    async def questions(client):
        await client.post(f"{ROUTE}/download", json={"name": LARGE})
        reply = await client.post(f"{ROUTE}/cancel", json={"name": LARGE})
        assert reply.status == 200
        await until(client, LARGE, lambda entry: entry["download"] is None)
        reply = await client.post(f"{ROUTE}/cancel", json={"name": LARGE})  # nothing to cancel is no error
        assert reply.status == 200
        await client.post(f"{ROUTE}/download", json={"name": LARGE})
        fetching.go.set()
        return await until(client, LARGE, lambda entry: entry["state"] == "here")

    asking(pack, questions)
    assert fetching.asked == [(LARGE,), (LARGE,)]


def test_a_failure_is_kept_until_the_next_try(pack, fetching):
    fetching.error = ValueError("there is no network. Put the file into models/sketch_models.")
    fetching.go.set()

    async def questions(client):
        await client.post(f"{ROUTE}/download", json={"name": LARGE})
        entry = await until(client, LARGE, lambda entry: entry["download"]["state"] == "failed")
        fetching.error = None
        await client.post(f"{ROUTE}/download", json={"name": LARGE})
        await until(client, LARGE, lambda entry: entry["state"] == "here")
        return entry["download"]["error"]

    assert asking(pack, questions) == "there is no network. Put the file into models/sketch_models."


def test_the_server_answers_while_a_download_runs(pack, fetching):
    async def questions(client):
        await client.post(f"{ROUTE}/download", json={"name": LARGE})
        for _ in range(20):
            assert (await weights(client))[LARGE]["download"]["state"] == "downloading"

    asking(pack, questions)


@pytest.mark.parametrize("where", ["download", "cancel"])
@pytest.mark.parametrize(
    "name",
    [
        *("../../secret.safetensors", "/etc/passwd", "C:\\secret.safetensors", "no_such.model", ""),
        *("https://example.org/x.safetensors", "someone/sketches", "default.safetensors", LARGE + "\x00"),
    ],
)
def test_only_names_of_the_manifest_are_taken(pack, fetching, where, name):
    async def questions(client):
        reply = await client.post(f"{ROUTE}/{where}", json={"name": name})
        return reply.status, await reply.json()

    status, answer = asking(pack, questions)
    assert status == 404
    assert "no such name in the manifest" in answer["error"]
    assert fetching.asked == []


def test_what_is_not_published_or_here_is_not_fetched(pack, fetching):
    async def questions(client):
        refused = await client.post(f"{ROUTE}/download", json={"name": SOON})
        assert refused.status == 409
        assert "is not published yet" in (await refused.json())["error"]
        here = await client.post(f"{ROUTE}/download", json={"name": "stroke_transformer.quickdraw345"})
        assert (await here.json())["state"] == "bundled"

    asking(pack, questions)
    assert fetching.asked == []


@pytest.mark.parametrize(
    ("body", "kind", "status", "sentence"),
    [
        (b'{"name": "x"}', "text/plain", 415, "as application/json"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "as application/json"),
        (b"", "application/json", 400, "and nothing else"),
        (b"not json", "application/json", 400, "and nothing else"),
        (b"\xff\xfe", "application/json", 400, "and nothing else"),
        (b"[" * 1000, "application/json", 400, "and nothing else"),
        (b'["x"]', "application/json", 400, "and nothing else"),
        (b'{"name": 1}', "application/json", 400, "and nothing else"),
        (b'{"name": "x", "path": "/"}', "application/json", 400, "and nothing else"),
        (b'{"name": "' + b"x" * 2000 + b'"}', "application/json", 413, "longer than 1024 bytes"),
        (b" " * 500_000, "application/json", 413, "longer than 1024 bytes"),
    ],
)
def test_other_bodies_are_refused(pack, fetching, body, kind, status, sentence):
    async def questions(client):
        reply = await client.post(f"{ROUTE}/download", data=body, headers={"Content-Type": kind})
        return reply.status, await reply.json()

    found, answer = asking(pack, questions)
    assert found == status
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://HOST"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://comfy.example"}, 200),  # through a proxy
        ({"Origin": "http://HOST"}, 200),  # plain HTTP from another machine
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, 403),  # another port
        ({"Sec-Fetch-Site": "none"}, 403),  # typed addresses do not post
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://HOST.evil.example"}, 403),
        ({"Origin": "http://HOST@evil.example"}, 403),
        ({"Origin": "http://[HOST"}, 403),
    ],
)
def test_other_sites_are_refused(pack, fetching, headers, status):
    async def questions(client):
        host = f"{client.host}:{client.port}"
        sent = {name: value.replace("HOST", host) for name, value in headers.items()}
        reply = await client.post(f"{ROUTE}/cancel", json={"name": LARGE}, headers=sent)
        read = await client.get(ROUTE, headers=sent)
        return reply.status, read.status

    posted, read = asking(pack, questions)
    assert posted == status
    assert read == (200 if headers.get("Sec-Fetch-Site") == "none" else status)


def test_other_methods_are_refused(pack, fetching):
    async def questions(client):
        for method in ("PUT", "DELETE", "PATCH", "POST"):
            assert (await client.request(method, ROUTE, json={"name": LARGE})).status == 405
        for method in ("GET", "PUT", "DELETE"):
            assert (await client.request(method, f"{ROUTE}/download", json={"name": LARGE})).status == 405

    asking(pack, questions)
    assert fetching.asked == []


def test_a_second_copy_of_the_pack_adds_no_second_routes(pack):
    before = len(pack.host.routes)
    pack.part("nodes.routes").register()
    assert len(pack.host.routes) == before == 3


def test_without_a_server_there_are_no_routes(pack, monkeypatch):
    from server import PromptServer

    monkeypatch.delattr(PromptServer, "instance")
    pack.part("nodes.routes").register()
    pack.part("nodes.host").push("event", {})
    pack.part("nodes.host").say("text", "1")
    assert (pack.host.pushed, pack.host.said) == ([], [])
