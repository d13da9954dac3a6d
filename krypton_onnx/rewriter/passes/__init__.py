"""Normalization passes: one a file, each states the cases it handles. They work in place on a graphsurgeon graph."""
