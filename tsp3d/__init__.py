"""Find what a sentence means in a 3D scan."""

from tsp3d.grounder import Grounder, ScanResult, Scene
from tsp3d.io import Frame, Scan, ScanError, UserError, find_scans, iter_scans, load_scan
from tsp3d.results import Box, Grounding

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Frame",
    "Grounder",
    "Grounding",
    "Scan",
    "ScanError",
    "ScanResult",
    "Scene",
    "UserError",
    "find_scans",
    "iter_scans",
    "load_scan",
]
