"""LitServe's own kind of model, in a module of its own: its inference process is spawned and imports it.

Needs `pip install litserve`.
"""

from pathlib import Path
from typing import Any

import litserve
from serving_peers import BATCH, BATCH_SECONDS, open_model


class Api(litserve.LitAPI):  # type: ignore[misc]  # litserve ships no types that we read
    """One text in, label and score out, in batches."""

    def __init__(self, folder: Path, form: str) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS)
        self.folder, self.form = folder, form

    def setup(self, device: str) -> None:
        """Load the model in the inference process."""
        self.predictor = open_model(self.folder, self.form)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would be taken for a query
        """The text of a request."""
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts that came together."""
        return inputs

    def predict(self, inputs: list[str]) -> Any:
        """Answer a batch."""
        found = self.predictor.predict(inputs, batch=len(inputs))
        return list(zip(found.labels, found.confidence.tolist(), strict=True))

    def unbatch(self, output: Any) -> Any:
        """One answer for each text."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """What goes out."""
        return {"label": output[0], "score": output[1]}
