"""Broken and borderline models, made by code: each takes a folder and returns what to give as the model.

`BROKEN` must be refused, `SOUND` must be answered rightly, and of `EITHER` both is right: refused, or answered rightly.
"""

import broken_files
import broken_graphs
import broken_values
from broken_base import BROKEN, EITHER, SIZE, SOUND, plain

__all__ = ["BROKEN", "EITHER", "SIZE", "SOUND", "broken_files", "broken_graphs", "broken_values", "plain"]
