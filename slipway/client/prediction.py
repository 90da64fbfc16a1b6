"""What a call gives back: the outputs by name, and who computed them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.errors import MissingExtra
from slipway.infer.arrays import Array, to_array
from slipway.infer.request import Response

if TYPE_CHECKING:
    import pandas


class Prediction(Mapping[str, Array]):
    """Output arrays by name, in the model's order. Iterates and compares like a dict, and is read-only.

    Attributes: `model`, `version` (the one that answered), `id` (of the request), `parameters` (of the answer).
    BYTES outputs are object arrays of `bytes`; BF16 outputs are float32.
    """

    def __init__(self, response: Response, *, index: Any = None) -> None:
        self.model = response.model
        self.version = response.version
        self.id = response.id
        self.parameters = response.parameters or {}
        self._arrays = {tensor.name: to_array(tensor) for tensor in response.outputs}
        self._index = index

    def __getitem__(self, name: str) -> Array:
        try:
            return self._arrays[name]
        except KeyError:
            raise KeyError(f"no output {name!r}; {self.model} gave {', '.join(self._arrays)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        outputs = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in self._arrays.items())
        return f"<Prediction of {self.model} {self.version}: {outputs}>"

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each row of the outputs, under the index of the DataFrame that went in, if one did.

        An output of one number a row is a column; one of several is a column each, `name_0`, `name_1`, …; of more
        dimensions, a column of arrays. BYTES become text where they are UTF-8. Raises MissingExtra without
        pandas, and ValueError where the outputs have different numbers of rows.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtra("to_pandas needs pandas: pip install pandas") from None
        columns: dict[str, Any] = {}
        for name, array in self._arrays.items():
            rows = _as_text(np.atleast_1d(array))
            if rows.ndim == 1:
                columns[name] = rows
            elif rows.ndim == 2 and rows.shape[1] == 1:
                columns[name] = rows[:, 0]
            elif rows.ndim == 2:
                columns |= {f"{name}_{place}": rows[:, place] for place in range(rows.shape[1])}
            else:
                columns[name] = list(rows)
        return pandas.DataFrame(columns, index=self._index)


def _as_text(array: Array) -> Array:
    if array.dtype != object:
        return array
    try:
        texts = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        return array
    decoded = np.empty(len(texts), dtype=object)
    decoded[:] = texts
    return decoded.reshape(array.shape)
