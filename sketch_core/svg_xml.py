"""The XML of an SVG file: capped in bytes, elements and depth, and never with a document type of its own.

Limits: defusedxml refuses entities, so an export that hides its metadata behind them is refused by name.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder

from .svg_values import SvgError

MAX_BYTES = 8_000_000  # unpacked
MAX_DEPTH = 64  # of nested elements, those that `use` repeats included
MAX_ELEMENTS = 20_000  # in the file, and again when `use` has been followed

SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class _Bounded:
    """A TreeBuilder that stops at the first element too many or too deep, while the file is being read."""

    def __init__(self) -> None:
        self.tree, self.depth, self.count = TreeBuilder(), 0, 0

    def start(self, tag: str, attributes: dict) -> Element:
        self.depth, self.count = self.depth + 1, self.count + 1
        if self.depth > MAX_DEPTH:
            raise SvgError(
                f"the SVG nests elements deeper than {MAX_DEPTH}. Ungroup it in a drawing program."
            )
        if self.count > MAX_ELEMENTS:
            raise SvgError(
                f"the SVG has more than {MAX_ELEMENTS} elements. Simplify it in a drawing program."
            )
        return self.tree.start(tag, attributes)

    def end(self, tag: str) -> Element:
        self.depth -= 1
        return self.tree.end(tag)

    def data(self, text: str) -> None:
        self.tree.data(text)

    def close(self) -> Element:
        return self.tree.close()


def parse_svg(source: str | bytes | Path) -> Element:
    """The root element of SVG text, its bytes (compressed or not) or a file; SvgError where it is none."""
    from defusedxml import DefusedXmlException  # here, so that a program that only writes pays nothing
    from defusedxml.ElementTree import DefusedXMLParser

    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    if not isinstance(source, (str, bytes)):
        raise ValueError(f"got {type(source).__name__}, wanted SVG text, bytes or a pathlib.Path.")
    if isinstance(source, bytes) and source[:2] == b"\x1f\x8b":
        source = _unpacked(source)
    if len(source) > MAX_BYTES:
        raise SvgError(f"the SVG is larger than {MAX_BYTES // 10**6} MB. Simplify it in a drawing program.")
    if isinstance(source, str):
        if "<" not in source:
            raise SvgError(f"{source[:60]!r} is not SVG text. Give a pathlib.Path to read a file.")
        source = _without_doctype(source.lstrip("\ufeff \t\r\n"), "<!DOCTYPE", "[", ">", " ", "<svg")
    else:
        source = _without_doctype(source, b"<!DOCTYPE", b"[", b">", b" ", b"<svg")
    parser = DefusedXMLParser(target=_Bounded(), forbid_dtd=True)
    try:
        parser.feed(source)
        root = parser.close()
    except DefusedXmlException:
        raise SvgError(
            "the SVG declares its own document type or entities, which are never read. Save it as plain SVG; "
            "in Illustrator, without 'Preserve Illustrator Editing Capabilities'."
        ) from None
    except SyntaxError as error:  # ElementTree's ParseError
        raise SvgError(f"this is not well-formed XML: {error}. Save the drawing again as SVG.") from None
    except UnicodeEncodeError:
        raise SvgError(
            "the SVG text holds half a character (a lone surrogate). Save it again as UTF-8."
        ) from None
    except (LookupError, ValueError) as error:
        if isinstance(error, SvgError):
            raise
        raise SvgError("the SVG names a text encoding that cannot be read. Save it again as UTF-8.") from None
    if tag_of(root) != "svg":
        raise SvgError(
            f"the file's outermost element is <{str(root.tag)[:40]}>, wanted <svg>. Choose an SVG file."
        )
    return root


def _unpacked(packed: bytes) -> bytes:
    """The contents of an .svgz, no more than a byte beyond what is allowed."""
    try:
        return zlib.decompressobj(wbits=31).decompress(packed, MAX_BYTES + 1)
    except zlib.error:
        raise SvgError("the .svgz cannot be unpacked: it is damaged. Save the drawing again.") from None


def _without_doctype(text, doctype, subset, end, blank, svg):
    """Blanks the harmless `<!DOCTYPE svg PUBLIC "..." "...">` of older programs; it declares nothing."""
    head = text[:4096].split(svg)[0]
    start = head.find(doctype)
    stop = head.find(end, start) if start >= 0 else -1
    if stop < 0 or subset in head[start:stop]:
        return text
    return text[:start] + blank * (stop + 1 - start) + text[stop + 1 :]


def tag_of(element: Element) -> str:
    """The element's name without the SVG namespace; names of other namespaces come back whole."""
    tag = element.tag if isinstance(element.tag, str) else ""
    return tag.removeprefix("{" + SVG_NAMESPACE + "}")
