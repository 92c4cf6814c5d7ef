"""Pickled arrays of numbers, read without running the pickle.

A pickle is a program. This reads the few opcodes that numpy writes (protocols 2 to 4, Python 2 included) for
an object array of numeric arrays, imports and calls nothing, and refuses the rest by name. pickle.Unpickler
with a strict find_class would not do: it allocates whatever LONG_BINPUT asks for, and hashes keys nested
without end. Here an opcode costs no more than its own bytes.

Limits: one dimension, no object array within another, no records, strings, dates or complex numbers.
"""

from __future__ import annotations

import pickle  # for the names of the opcodes
import re
import struct

import numpy as np


class Refused(Exception):
    """The pickle asks for something that arrays of numbers do not need."""


def read_numbers(data: bytes) -> list[np.ndarray | None]:
    """The items of a pickled 1-D object array: views of numbers in `data`, None for an item without.

    ValueError for damage, Refused for everything else a pickle can hold.
    """
    try:
        top = _replay(data)
    except (IndexError, KeyError, struct.error, ValueError, AttributeError, TypeError) as error:
        raise ValueError("truncated or damaged pickle") from error
    if not isinstance(top, _Array) or not isinstance(top.value, list):
        raise Refused("its pickle is no array of drawings")
    items = (item.value if isinstance(item, _Array) else None for item in top.value)
    return [item if isinstance(item, np.ndarray) else None for item in items]


# What numpy's pickles of arrays name. The values are inert: they stand for callables that are never imported.
_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE = "<reconstruct>", "<ndarray>", "<dtype>", "<encode>"


class _Name:
    """A name that a pickle may mention."""

    def __init__(self, name: str) -> None:
        self.name = name


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _Name(_RECONSTRUCT),
    ("numpy._core.multiarray", "_reconstruct"): _Name(_RECONSTRUCT),
    ("numpy", "ndarray"): _Name(_NDARRAY),
    ("numpy", "dtype"): _Name(_DTYPE),
    ("_codecs", "encode"): _Name(_ENCODE),  # how Python 3 writes bytes for Python 2
}
_NUMBER = re.compile(r"[iu][1248]|f[248]|b1")


class _Dtype:
    """A dtype as it is put together: first its code, then (BUILD) its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.numpy: np.dtype | None = None


class _Array:
    """An array as it is put together: first empty, then (BUILD) numbers, or the list of an object array."""

    value: np.ndarray | list | None = None


def _table(**formats: str) -> dict[int, struct.Struct]:
    """Opcode -> layout of its argument."""
    return {getattr(pickle, name)[0]: struct.Struct(layout) for name, layout in formats.items()}


_INTS = _table(BININT1="<B", BININT2="<H", BININT="<i")
_BYTES = _table(SHORT_BINBYTES="<B", BINBYTES="<I", BINBYTES8="<Q")
_TEXTS = _table(SHORT_BINUNICODE="<B", BINUNICODE="<I")
_STRINGS = _table(SHORT_BINSTRING="<B", BINSTRING="<i")  # Python 2's, read as latin-1
_GETS = _table(BINGET="<B", LONG_BINGET="<I")
_PUTS = _table(BINPUT="<B", LONG_BINPUT="<I")
_TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}
_NEWTRUE, _NEWFALSE, _EMPTY = pickle.NEWTRUE[0], pickle.NEWFALSE[0], pickle.EMPTY_TUPLE[0]
_LITERALS = {pickle.NONE[0]: None, _NEWTRUE: True, _NEWFALSE: False, _EMPTY: ()}
_SKIPPED = {pickle.PROTO[0]: 1, pickle.FRAME[0]: 8}
_MEMOIZE, _MARK, _TUPLE, _LIST = pickle.MEMOIZE[0], pickle.MARK[0], pickle.TUPLE[0], pickle.EMPTY_LIST[0]
_APPEND, _APPENDS, _REDUCE, _BUILD = pickle.APPEND[0], pickle.APPENDS[0], pickle.REDUCE[0], pickle.BUILD[0]
_GLOBAL, _STACK_GLOBAL = pickle.GLOBAL[0], pickle.STACK_GLOBAL[0]
_LONG1, _STOP = pickle.LONG1[0], pickle.STOP[0]


def _replay(data: bytes):
    """What the pickle builds, of tuples, lists, numbers, text, `_Name`, `_Dtype`, `_Array`."""
    stack: list = []
    marks: list[int] = []
    memo: dict[int, object] = {}
    at = 0
    while True:
        op = data[at]
        at += 1
        if op == _MEMOIZE:
            memo[len(memo)] = stack[-1]
        elif op in _INTS:
            layout = _INTS[op]
            stack.append(layout.unpack_from(data, at)[0])
            at += layout.size
        elif op in _GETS:
            layout = _GETS[op]
            stack.append(memo[layout.unpack_from(data, at)[0]])
            at += layout.size
        elif op in _TUPLES:
            n = _TUPLES[op]
            stack[-n:] = [(stack[-n], *stack[len(stack) - n + 1 :])]
        elif op == _MARK:
            marks.append(len(stack))
        elif op in _LITERALS:
            stack.append(_LITERALS[op])
        elif op in _BYTES or op in _TEXTS or op in _STRINGS:
            layout = _BYTES.get(op) or _TEXTS.get(op) or _STRINGS[op]
            (length,) = layout.unpack_from(data, at)
            at += layout.size
            if not 0 <= length <= len(data) - at:
                raise IndexError
            text = data[at : at + length]
            stack.append(text if op in _BYTES else text.decode("utf-8" if op in _TEXTS else "latin-1"))
            at += length
        elif op == _TUPLE:
            mark = marks.pop()
            stack[mark:] = [tuple(stack[mark:])]
        elif op == _BUILD:
            state = stack.pop()
            _build(stack[-1], state)
        elif op == _REDUCE:
            arguments = stack.pop()
            stack[-1] = _reduce(stack[-1], arguments)
        elif op in _PUTS:
            layout = _PUTS[op]
            memo[layout.unpack_from(data, at)[0]] = stack[-1]
            at += layout.size
        elif op == _STACK_GLOBAL:
            name = stack.pop()
            stack[-1] = _named(stack[-1], name)
        elif op == _GLOBAL:
            end = data.index(b"\n", data.index(b"\n", at) + 1)
            stack.append(_named(*data[at:end].decode().split("\n")))
            at = end + 1
        elif op == _LIST:
            stack.append([])
        elif op == _APPENDS or op == _APPEND:
            mark = marks.pop() if op == _APPENDS else len(stack) - 1
            items = stack[mark:]
            del stack[mark:]
            _list(stack[-1]).extend(items)
        elif op == _LONG1:
            length = data[at]
            stack.append(int.from_bytes(data[at + 1 : at + 1 + length], "little", signed=True))
            at += 1 + length
        elif op in _SKIPPED:
            at += _SKIPPED[op]
        elif op == _STOP:
            return stack.pop()
        else:
            raise Refused(f"its pickle uses opcode {bytes([op])!r}")


def _named(module: object, name: object) -> _Name:
    if (module, name) not in _NAMES:
        raise Refused(f"its pickle names the callable {f'{module}.{name}'[:120]!r}")
    return _NAMES[module, name]


def _list(value: object) -> list:
    if type(value) is not list:
        raise Refused("its pickle appends to something that is no list")
    return value


def _reduce(callee: object, arguments: tuple):
    """What the one allowed use of each name makes; the callable itself stays unknown."""
    name = callee.name if isinstance(callee, _Name) else None
    if name == _RECONSTRUCT and isinstance(arguments[0], _Name) and arguments[0].name == _NDARRAY:
        return _Array()
    if name == _DTYPE and isinstance(arguments[0], str):
        return _Dtype(arguments[0])
    if name == _ENCODE and isinstance(arguments[0], str):
        return arguments[0].encode("latin-1")
    raise Refused("its pickle calls something")


def _build(made: object, state: tuple) -> None:
    if isinstance(made, _Dtype):
        _, order, subdtype, names, *_ = state
        if subdtype is not None or names is not None or order not in ("<", ">", "|", "="):
            raise Refused("its pickle holds records")
        if made.code in ("O8", "O4", "O"):
            made.numpy = np.dtype(object)
        elif isinstance(made.code, str) and _NUMBER.fullmatch(made.code):
            made.numpy = np.dtype(order + made.code)
        else:
            raise Refused(f"its pickle holds an array of {made.code!s:.20}")
    elif isinstance(made, _Array):
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise TypeError
        if dtype.numpy.hasobject:
            made.value = _list(content)
        else:
            content = content.encode("latin-1") if isinstance(content, str) else content
            made.value = np.frombuffer(content, dtype.numpy).reshape(shape, order="F" if fortran else "C")
    else:
        raise Refused("its pickle sets the state of something")
