"""Distillation: the text encoder from a larger one (``text*.py``), the grounding network by the methods of ``base.py``."""
