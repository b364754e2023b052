"""Distillation: small models taught by larger ones."""
