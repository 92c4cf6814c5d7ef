"""What hostile SVG files cost: a fresh process reads each one; its processor time and memory are measured."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="memory is measured with `resource`, which Windows lacks")

SECONDS, MEGABYTES = 2.0, 500.0
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">'
)
ROOT = Path(__file__).parents[1]

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from sketch_core.svg import read_svg
start = time.process_time()
try:
    said = f"read {read_svg(Path(sys.argv[1])).num_points} points"
except ValueError as error:
    said = str(error)
seconds = time.process_time() - start
status = Path("/proc/self/status")  # Linux: its ru_maxrss remembers the process that started this one
if status.exists():
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
print(json.dumps([said, seconds, peak]))
"""

MANY = " ".join(f"a{i}=''" for i in range(110))


def bomb(levels: int, width: int) -> str:
    groups = "".join(
        f'<g id="u{i + 1}">' + f'<use xlink:href="#u{i}"/>' * width + "</g>" for i in range(levels)
    )
    return HEAD + '<g id="u0"><path d="M0 0h1"/></g>' + groups + "</svg>"


def laughs() -> str:
    entities = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    return f'<!DOCTYPE svg [<!ENTITY l0 "ha">{entities}]>{HEAD}<text>&l9;</text></svg>'


ATTACKS = {
    "billion laughs": (laughs, "declares its own document type or entities"),
    "external entity": (
        lambda: f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>{HEAD}<text>&x;</text></svg>',
        "declares its own document type or entities",
    ),
    "external parameter entity": (
        lambda: f'<!DOCTYPE svg [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]>{HEAD}</svg>',
        "declares its own document type or entities",
    ),
    "use bomb": (lambda: bomb(8, 10), "follows more than 1000 <use>"),
    "wide use bomb": (
        lambda: HEAD + f'<g id="a">{"<g/>" * 9000}</g>' + '<use href="#a"/>' * 900 + "</svg>",
        "draws more than 20000 elements",
    ),
    "5,000 nested groups": (lambda: HEAD + "<g>" * 5000 + "</g>" * 5000 + "</svg>", "deeper than 64"),
    "5,000 nested svgs": (lambda: "<svg>" * 5000 + "</svg>" * 5000, "deeper than 64"),
    "NaN coordinates": (lambda: HEAD + '<path d="M0 0L nan 3"/></svg>', "cannot be read"),
    "infinite coordinates": (lambda: HEAD + '<circle r="1e400"/></svg>', "wanted a number up to"),
    "100 MB of spaces": (lambda: HEAD + " " * 100_000_000 + "</svg>", "larger than 8 MB"),
    "100 MB of path": (lambda: HEAD + '<path d="M0 0' + "h1" * 50_000_000 + '"/></svg>', "larger than 8 MB"),
    "7.9 MB of elements": (lambda: HEAD + "<g/>" * 1_900_000 + "</svg>", "more than 20000 elements"),
    "7 MB of attributes": (lambda: HEAD + f"<g {MANY}/>" * 9_000 + "</svg>", "read 0"),
    "7.9 MB of rules": (
        lambda: (
            HEAD
            + "".join(f"<style>{'*{fill:red}' * 15_000}</style>" for _ in range(20))
            + "<g/>" * 9000
            + "</svg>"
        ),
        "more than 20000 style rules",
    ),
    "rules for every element": (
        lambda: HEAD + f"<style>{'*{fill:red}' * 15_000}</style>" + "<g/>" * 9000 + "</svg>",
        "too many rules",
    ),
    "7.9 MB of classes": (
        lambda: HEAD + "<style>.a{fill:red}</style>" + f'<g class="{"a " * 190}"/>' * 19_000 + "</svg>",
        "read 0",
    ),
    "squeezed gigabyte": (lambda: gzip.compress(HEAD.encode() + bytes(10**8), 1), "larger than 8 MB"),
    "moves and closings": (
        lambda: HEAD + f'<path d="{"M1 1z" * 600_000}"/></svg>',
        "more than 200000 segments",
    ),
    "long number": (lambda: HEAD + f'<circle r="{"1" * 7_900_000}x"/></svg>', "wanted a length"),
    "slow CSS": (
        lambda: HEAD + f'<g style="fill:{"! " * 4_900}x"/>' * 790 + "</svg>",
        "read 0",
    ),
    "slow transform": (
        lambda: HEAD + f'<g transform="{"scale(1)" * 249}"/>' * 3_900 + "</svg>",
        "of transforms",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little_and_is_answered_in_a_sentence(name, tmp_path):
    make, wanted = ATTACKS[name]
    content = make()
    path = tmp_path / "attack.svg"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    said, seconds, megabytes = json.loads(ran.stdout)
    assert any(part in said for part in wanted.split("|")), said
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
    assert len(said) < 300
    assert said.count("\n") == 0


def test_the_measurement_sees_time_and_memory(tmp_path):
    hungry = MEASURE.replace(
        "read_svg(Path(sys.argv[1])).num_points", "len(bytes(b'x') * 600_000_000)"
    ).replace("start = time.process_time()", "start = time.process_time() - 5")
    ran = subprocess.run([sys.executable, "-c", hungry, "x"], cwd=ROOT, capture_output=True, text=True)
    said, seconds, megabytes = json.loads(ran.stdout)
    assert said == "read 600000000 points"
    assert seconds > SECONDS
    assert megabytes > MEGABYTES


def test_the_command_line_refuses_in_one_line(tmp_path):
    path = tmp_path / "deep.svg"
    path.write_text(ATTACKS["5,000 nested groups"][0]())
    ran = subprocess.run(
        [sys.executable, "-m", "sketch_core", "convert", str(path), str(tmp_path / "out.ndjson")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode != 0
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "deeper than 64" in ran.stderr
    assert not (tmp_path / "out.ndjson").exists()
