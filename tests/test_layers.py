"""The direction of imports: a module of `sketch_core` imports only from lines of ORDER above its own.

ORDER is the reading order of the library, and its second column what each line may import beyond the
standard library, torch and numpy. The test reads syntax trees: an import inside a function counts as well,
one under `if TYPE_CHECKING:` does not happen and is free to point anywhere in `sketch_core`.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "sketch_core"

# Modules of one line may import each other. A folder is one line, named by its first part.
ORDER: dict[tuple[str, ...], set[str]] = {
    ("arguments",): set(),
    ("strokes",): set(),
    ("pen",): set(),
    ("svg_values",): set(),
    ("svg_paths",): {"svgpathtools"},
    ("svg_styles",): set(),
    ("svg_xml",): {"defusedxml"},
    ("svg_reader",): set(),
    ("svg",): set(),
    ("raster",): {"PIL"},
    ("soft_raster",): set(),
    ("trace",): {"PIL", "scipy", "skimage"},
    ("schedules",): set(),
    ("models",): set(),  # above denoisers.py, which turns each network's own words into one contract
    ("perceptual",): set(),
    ("denoisers",): set(),
    ("samplers",): set(),
    ("shortcut",): set(),
    ("guidance",): set(),
    ("lost",): set(),
    ("data",): set(),
    ("metrics",): {"gudhi"},
    ("weight_file",): {"safetensors"},
    ("manifest",): set(),
    ("checkpoints",): {"safetensors"},
    ("ledger",): set(),
    ("transfer",): {"huggingface_hub"},
    ("weight_source",): {"huggingface_hub"},
    ("weight_fetch",): {"huggingface_hub", "filelock"},  # the second is the first's own
    ("hub",): set(),
    ("recognizer",): set(),
    ("knitter",): set(),
    ("naming",): set(),
    ("given",): set(),
    ("redraw",): set(),
    ("rectifier",): set(),
    ("inbetween",): set(),
    ("rnn", "photo"): set(),
    ("evaluate",): {"PIL", "torch_fidelity"},
    ("publish",): {"huggingface_hub"},
    ("train",): {"PIL"},
    ("weights_command",): set(),
    ("redraw_command",): {"PIL"},
    ("__init__",): set(),
    ("__main__",): set(),
}
EVERYWHERE = {"torch", "numpy"} | set(sys.stdlib_module_names)
# The conveniences Sketch.to_svg and Sketch.to_image, imported when they are called: (importer, imported).
FORWARD = {("strokes", "svg"), ("strokes", "raster")}

LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
THIRD_PARTY = {name: allowed for names, allowed in ORDER.items() for name in names}
MODULES = sorted(CORE.rglob("*.py"))


def line_of(path: Path) -> str:
    """The name in ORDER that a file belongs to: its stem, or the folder under sketch_core that it lies in."""
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST, path: Path):
    """Yields ("absolute", top-level package, deferred) and ("relative", name in ORDER, deferred)."""
    inside_functions = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    package = path.relative_to(CORE).parts[:-1]
    for node in ast.walk(tree):
        if node in for_types and isinstance(node, ast.ImportFrom) and node.level:
            continue
        deferred = node in inside_functions
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield "absolute", alias.name.split(".")[0], deferred
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield "absolute", node.module.split(".")[0], deferred
        elif isinstance(node, ast.ImportFrom):
            above = len(package) - (node.level - 1)
            assert above >= 0, f"{path.name}:{node.lineno} imports from outside sketch_core"
            base = [*package[:above], *(node.module.split(".") if node.module else [])]
            for target in [base] if base else [[alias.name] for alias in node.names]:
                yield "relative", target[0], deferred


def violations(path: Path, source: str) -> list[str]:
    here, found = line_of(path), []
    for kind, name, deferred in imports(ast.parse(source), path):
        if kind == "absolute":
            if name not in EVERYWHERE | THIRD_PARTY[here]:
                found.append(f"{here} imports {name}, which its line does not list")
        elif (here, name) in FORWARD:
            if not deferred:
                found.append(f"{here} imports {name} at its top, allowed inside a function only")
        elif name not in LEVEL:
            found.append(f"{here} imports {name}, which is on no line")
        elif name != here and LEVEL[name] > LEVEL[here]:
            found.append(f"{here} imports {name}, which is on a line below its own")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_a_module_imports_only_from_above(path):
    assert line_of(path) in LEVEL, f"{path.name} is on no line of ORDER: decide where it is read"
    assert not violations(path, path.read_text("utf-8"))


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("pen.py", "from .svg import read_svg", "below its own"),
        ("pen.py", "def f():\n    from . import knitter", "below its own"),
        ("models/stroke_unet.py", "from ..data.npz import read_npz", "below its own"),
        ("strokes.py", "from .svg import sketch_to_svg", "at its top"),
        ("strokes.py", "def f():\n    from .pen import decode_pen", "below its own"),
        ("samplers.py", "import scipy.stats", "does not list"),
        ("samplers.py", "if TYPE_CHECKING:\n    import scipy.stats", "does not list"),
        ("pen.py", "if TYPE_CHECKING:\n    pass\nelse:\n    from .svg import read_svg", "below its own"),
        ("knitter.py", "import comfy.utils", "does not list"),
        ("knitter.py", "from sketch_core.strokes import Sketch", "does not list"),
        ("pen.py", "from .utils import chunk", "on no line"),
    ],
)
def test_the_check_can_fail(module, source, complaint):
    assert any(complaint in line for line in violations(CORE / module, source))


def test_the_check_lets_what_is_right_pass():
    assert not violations(CORE / "pen.py", "if TYPE_CHECKING:\n    from .samplers import Step")
    assert not violations(CORE / "strokes.py", "import numpy\ndef f():\n    from .svg import sketch_to_svg")
    assert not violations(CORE / "svg_xml.py", "from defusedxml import ElementTree\nfrom .strokes import x")
    assert not violations(
        CORE / "models/__init__.py", "from .stroke_unet import StrokeUNet\nfrom ..pen import f"
    )
