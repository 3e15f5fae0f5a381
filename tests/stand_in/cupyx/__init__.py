"""What of CuPy's extensions kernels/launch/gpu.py asks for: see ../cupy."""

from __future__ import annotations

from numpy import empty as empty_pinned

__all__ = ["empty_pinned"]
