"""vedette: serve ONNX models and keep watch over them.

Rule: importing this package loads nothing heavy; names are resolved on first use.
"""

__version__ = "0.1.0"
