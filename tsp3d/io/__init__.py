"""Scans in: readers for the usual formats, units, axes and checks."""

from tsp3d.io.errors import ScanError, UserError
from tsp3d.io.frame import Frame
from tsp3d.io.load import find_scans, iter_scans, load_scan
from tsp3d.io.scan import Scan

__all__ = ["Frame", "Scan", "ScanError", "UserError", "find_scans", "iter_scans", "load_scan"]
