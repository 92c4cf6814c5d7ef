"""Vector sketches that draw themselves: SketchKnitter and its kin, as a library.

>>> import sketch_core
>>> model = sketch_core.load("default")
>>> cats = model.draw("cat", count=2, seed=0)
>>> cats[0].label
'cat'
>>> cats[0].to_svg().startswith("<svg")
True
"""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = [
    *("PenState", "Sketch", "StrokeLatent", "load", "load_recognizer"),
    *("complete", "heal", "interpolate", "rectify", "vary"),
]


def __getattr__(name: str):
    """The public names, imported when first asked for: `import sketch_core` costs nothing."""
    if name in ("PenState", "Sketch", "StrokeLatent"):
        from . import strokes as home
    elif name == "load":
        from . import knitter as home
    elif name == "load_recognizer":
        from . import recognizer as home
    elif name in ("complete", "heal", "vary"):
        from . import redraw as home
    elif name == "rectify":
        from . import rectifier as home
    elif name == "interpolate":
        from . import inbetween as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
