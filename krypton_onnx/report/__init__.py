"""A report of an explanation: one HTML page that holds all it needs, to be filed with a finding.

data (an explanation as JSON can hold it) -> page (template, style and scripts around it) -> write. The page asks no
network for anything, and its policy (Content-Security-Policy) allows no other style and no other script.
"""

from krypton_onnx.report.contents import data
from krypton_onnx.report.render import page, write

__all__ = ["data", "page", "write"]
