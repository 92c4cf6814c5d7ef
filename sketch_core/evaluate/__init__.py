"""The protocol: draw, name, measure, and put every figure beside what real drawings get.

Three sets of drawings, the same number of each class in each:
  fake   drawn by the model, once for every seed;
  test   real, of the test split, which neither model nor judge has seen;
  floor  real, of the valid split: what a perfect model would get against test at this sample size.
The judge, a recognizer named by file and sha256, says what a drawing shows, and describes it by features.
Recognition is the share of drawings that the judge gives their class, averaged over classes. Precision and
recall (k = 3), density and coverage (k = 5), FID and KID compare test with fake, and test with floor, on the
judge's features, all classes together in equal parts. Strokes, ink (length of line, the drawing fitted to a
255 x 255 canvas) and points are means over all drawings. Nearest distances lead from each fake, and from each
test drawing, to the nearest drawing of its class in the train split, on features and on small pictures: a
copy is nearer than test drawings are.

The judge that comes with the pack names and describes for this alone: it has another shape than what names
sketches for users, and it trained, guided and chose nothing.

Limits: a recognizer trained on Quick, Draw! judges Quick, Draw!; it is no judge of beauty. Judge by another
one than trained or chose what is judged (`--judge`), and never train on the test split.
"""

from __future__ import annotations

from .classes import DEEP_CLASSES, PAPER_CLASSES, choose_classes
from .command import evaluate, main
from .comparing import differences
from .drawing import draw_all
from .figures import figures_of
from .measuring import ink_length, measure_real, nearest_training, small_pictures
from .printing import sheet, table
from .report import Bar, compare

__all__ = [
    "DEEP_CLASSES",
    "PAPER_CLASSES",
    "Bar",
    "choose_classes",
    "compare",
    "differences",
    "draw_all",
    "evaluate",
    "figures_of",
    "ink_length",
    "main",
    "measure_real",
    "nearest_training",
    "sheet",
    "small_pictures",
    "table",
]
