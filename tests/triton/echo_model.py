"""Gives back what it gets: one input and output of every datatype of the protocol."""

from __future__ import annotations

from typing import Any

import slipway
from slipway.infer.tensor import DATATYPES


class Echo(slipway.Model):
    inputs = {datatype: f"{datatype}[-1,2]" for datatype in DATATYPES}
    outputs = inputs

    def predict(self, **inputs: Any) -> Any:
        return inputs
