"""What the README shows works, and is what the checks run."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest

from sketch_core import __main__ as cli
from sketch_core.train.command import parser as train_parser
from sketch_core.weights_command import add_verbs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def examples() -> list:
    """The modules of the library whose docstrings hold examples; those that load a model need the weights."""
    found = []
    for path in sorted((ROOT / "sketch_core").rglob("*.py")):
        text = path.read_text("utf-8")
        if ">>> " in text:
            parts = path.relative_to(ROOT).with_suffix("").parts
            marks = [pytest.mark.weights] if "load(" in text else []
            found.append(pytest.param(".".join(parts).removesuffix(".__init__"), marks=marks))
    return found


@pytest.mark.weights
def test_the_python_example_runs_as_shown():
    tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False, encoding="utf-8")
    assert tried.attempted >= 5
    assert tried.failed == 0


@pytest.mark.parametrize("name", examples())
def test_examples_in_the_library_run_as_shown(name):
    tried = doctest.testmod(importlib.import_module(name))
    assert tried.attempted > 0
    assert tried.failed == 0


COMMANDS = re.findall(r"^(?:`?python|.*&& \S*python) -m sketch_core ([^#`\n]*)", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_parses(command):
    argv = shlex.split(command)
    if argv[0] == "train":
        assert train_parser().parse_args(argv[1:]).data == "data"
        return
    if argv[0] == "weights":
        parser = cli.Parser()
        add_verbs(parser)
        assert parser.parse_args(argv[1:]).run
        return
    if argv[0] == "evaluate":
        return  # its parser is not to be had alone
    if argv[0] in ("rectify", "complete", "heal", "vary", "interpolate"):
        assert cli.build_parser().parse_args(argv).verb == argv[0]
        return
    assert cli.build_parser().parse_args(argv).run in (
        cli.draw,
        cli.classes,
        cli.recognize,
        cli.convert,
        cli.fetch,
    )


def test_there_is_a_command_of_each_kind():
    assert {command.split()[0] for command in COMMANDS} >= {"draw", "classes", "recognize", "convert", "data"}


def test_files_the_readme_links_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert "docs/sketches.png" in links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_readme_says_nothing_of_one_machine():
    assert not re.search(r"/(home|work|tmp|root)/", README)
