"""Pictures of results."""

from tsp3d.viz.ply import write_annotated_ply
from tsp3d.viz.png import write_png

__all__ = ["write_annotated_ply", "write_png"]
