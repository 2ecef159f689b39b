"""Bundled weights and their cards."""
