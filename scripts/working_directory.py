"""Imported before torch: MKL in it ends a process whose working directory was deleted, with words of its own."""

import os
import sys

try:
    os.getcwd()
except FileNotFoundError:
    sys.exit("error: cannot work in this folder: it does not exist any more; cd to one that does, then call this again")
