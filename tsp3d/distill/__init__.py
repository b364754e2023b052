"""Distillation: of the text encoder (``text*.py``), and teachers of the grounding network (``base.py``)."""
