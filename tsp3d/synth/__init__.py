"""Synthetic rooms, a virtual scanner and referring sentences."""
