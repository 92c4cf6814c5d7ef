"""`argparse` as every command here uses it: what is wrong is one line, and the exit status 2."""

from __future__ import annotations

import argparse


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line on standard error."""

    def error(self, message: str):
        self.exit(2, f"sketch_core: {' '.join(message.split())}. See `{self.prog} --help`.\n")
