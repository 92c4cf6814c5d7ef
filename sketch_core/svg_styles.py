"""The styles of an SVG element: attributes, style sheets and its style attribute, the later the stronger.

Of CSS this knows the properties that decide where lines are and whether they show (`PROPERTIES`), and
selectors of one element: a name or `*`, classes, an id, in any combination.

Limits: combinators, attribute selectors and pseudo-classes select nothing; at-rules (media, fonts, imports)
are left out.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from .svg_values import SvgError

PROPERTIES = frozenset(
    "display visibility opacity fill fill-opacity stroke stroke-opacity stroke-width "
    "transform transform-origin font-size".split()
)
MAX_SHEET = 200_000  # characters of a style sheet; longer ones are fonts and are left out
MAX_DECLARATIONS = 10_000  # characters of one block of declarations
MAX_CLASSES = 1_000  # characters of a class attribute
MAX_RULES = 20_000
MAX_TRIALS = 1_000_000  # of a rule on an element, in a document
_SELECTOR = re.compile(r"(\*|[\w-]*)((?:[.#][\w-]+)*)")

Styles = dict[str, str]


class StyleSheet:
    """The rules of a document's <style> elements."""

    def __init__(self) -> None:
        self.rules: dict[str, list[tuple[tuple[int, int], str, frozenset[str], Styles, Styles]]] = {}
        self.count = self.trials = 0

    def add(self, sheet: str) -> None:
        first, *commented = sheet.split("/*")
        sheet = first + " ".join(part.partition("*/")[2] for part in commented)
        sheet = sheet.replace("<!--", " ").replace("-->", " ")
        depth, selectors, skipping = 0, "", False
        for token in re.split(r"([{}])", sheet):  # no pattern with a choice: a hostile sheet takes no longer
            if token == "{":
                depth += 1
            elif token == "}":
                depth = max(0, depth - 1)
            elif depth == 0:
                selectors = token.rpartition(";")[2].strip()
                skipping = selectors.startswith("@")
            elif depth == 1 and not skipping:
                plain, important = declarations(token)
                if plain or important:
                    for selector in selectors.split(","):
                        self._add_rule(selector.strip(), plain, important)

    def _add_rule(self, selector: str, plain: Styles, important: Styles) -> None:
        match = _SELECTOR.fullmatch(selector) if 0 < len(selector) <= 200 else None
        if match is None:
            return
        name = "" if match[1] == "*" else match[1]
        marks = re.findall(r"[.#][\w-]+", match[2])
        ids = sum(mark[0] == "#" for mark in marks)
        self.count += 1
        if self.count > MAX_RULES:
            raise SvgError(f"the SVG has more than {MAX_RULES} style rules. Save it as plain SVG.")
        weight = (ids * 1_000_000 + (len(marks) - ids) * 1_000 + bool(name), self.count)
        key = marks[-1] if marks else name  # by which an element finds the rule
        self.rules.setdefault(key, []).append((weight, name, frozenset(marks), plain, important))

    def styles(self, element: Element, name: str) -> Styles:
        """The element's own values of `PROPERTIES`; `name` is its tag without the namespace."""
        found = {key: element.get(key).strip() for key in PROPERTIES.intersection(element.keys())}
        own, own_important = declarations(element.get("style") or "")
        important: Styles = {}
        if self.rules:
            marks = {"." + part for part in (element.get("class") or "")[:MAX_CLASSES].split()}
            if element.get("id"):
                marks.add("#" + element.get("id"))
            tried = [self.rules[key] for key in ("", name, *marks) if key in self.rules]
            self.trials += sum(map(len, tried))
            if self.trials > MAX_TRIALS:
                raise SvgError("the SVG's style sheets have too many rules for its elements. Simplify it.")
            fitting = [
                rule for rules in tried for rule in rules if rule[1] in ("", name) and rule[2] <= marks
            ]
            fitting.sort(key=lambda rule: rule[0])
            for *_, plain, urgent in fitting:
                found |= plain
                important |= urgent
        return found | own | important | own_important


def declarations(text: str) -> tuple[Styles, Styles]:
    """The declarations of a block that matter here: ordinary ones, and those marked !important."""
    plain: Styles = {}
    important: Styles = {}
    for part in text[:MAX_DECLARATIONS].split(";"):
        name, _, value = part.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name not in PROPERTIES or not value:
            continue
        bare, _, mark = value.rpartition("!")
        if mark.strip().lower() == "important":
            important[name] = bare.strip()
        else:
            plain[name] = value
    return plain, important
