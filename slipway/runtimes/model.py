"""The class that people derive their own models from. Imports nothing, so that a model's file stays light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class Model:
    """A model in Python. Slipway makes one in each replica, calls `load` once, then `predict` for every batch.

        class Toxicity(slipway.Model):
            inputs = {"text": "BYTES[-1]", "threshold": "FP32[-1]"}
            outputs = {"toxic": "BOOL[-1]", "score": "FP32[-1]"}

            def load(self):
                self.words = set(open("words.txt").read().split())

            def predict(self, text, threshold):
                score = np.array([share(item.decode(), self.words) for item in text], "float32")
                return {"toxic": score > threshold, "score": score}

    **Signature.** Declare `inputs` and `outputs` as above: a datatype of the Open Inference Protocol, then sizes, where
    -1 is any size. Or annotate `predict`, and leave them out:

            def predict(self, image: Annotated[np.ndarray, "FP32[-1,3,8,8]"]) -> Annotated[np.ndarray, "FP32[-1,9]"]:

    `predict` gets one numpy array for each input, under its name; BYTES arrives as an object array of `bytes`, BF16 as
    float32. A parameter with a default is an optional input. With `inputs` declared, `predict(self, **inputs)` and
    `predict(self, inputs: dict)` get them all as a dict. Without declared outputs, a trial at load shows what they are.

    **Answer.** An array for one output; a dict by name, or a tuple in the order of `outputs`, for several. Lists become
    arrays. What comes back must have the declared datatype (or one that converts to it without loss but of precision),
    the declared shape, and one row for each row of input.

    **Batches.** Where every input and output begins with -1, rows of several requests come together in one call, and
    row N of the answer must belong to row N of the input. `batchable = False` turns that off: each request comes alone.

    `predict`, `load`, `warm_up` and `close` may be `async def`. An exception in `predict` fails the requests of the
    batch with its type and text; raise `slipway.errors.InvalidInput` where the request is at fault. The constructor
    gets `--option KEY=VALUE` settings as keyword arguments, converted where it is annotated with int, float or bool.
    """

    inputs: ClassVar[Mapping[str, str]] = {}
    outputs: ClassVar[Mapping[str, str]] = {}
    batchable: ClassVar[bool | None] = None

    threads: int = 1
    """How many threads a replica may compute with; set before `load`."""

    device: str = "cpu"
    """cpu, or cuda:N; set before `load`."""

    def load(self) -> Any:
        """Read weights, open files: whatever must happen once. Not called for mere metadata."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Compute one batch; see the class."""
        raise NotImplementedError(f"{type(self).__name__} has no predict method")

    def example(self, rows: int) -> Mapping[str, Any] | None:
        """Inputs by name to warm up with, where zeros and empty text will not do; None for those."""
        del rows
        return None

    def warm_up(self) -> Any:
        """Anything beyond a first `predict` that makes the next ones fast."""

    def close(self) -> Any:
        """The replica ends: give back what `load` took."""
