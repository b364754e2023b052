"""Synthetic 2D views of objects and scans, and what 2D teachers see in them."""
