"""Measurements; each prints a table, and those that make docs write them."""
