"""Specs and command lines of Gradient Deployments, all three generations, as specs of Slipway.

Nothing is dropped in silence: each field that was written is either mapped, or reported as a gap with the reason and
what to do.
"""

from slipway.spec.gradient.conversion import Conversion
from slipway.spec.gradient.convert import convert

__all__ = ["Conversion", "convert"]
