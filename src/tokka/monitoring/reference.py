"""What the champion's evaluation left for monitoring, read from Parquet: the reference rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from tokka.data import rows
from tokka.errors import TokkaError
from tokka.monitoring.drift.columns import Columns, from_table

REFERENCE_ROWS = 2000
# What evaluations compared with before they said it.
UNSAID = "validation rows of the training data (evaluate the champion again: test rows give fewer false alarms)"


def read_reference(path: Path, most: int = REFERENCE_ROWS) -> Columns:
    """The columns of reference.parquet, of at most so many rows, evenly spread; TokkaError when it lacks them."""
    table = rows.load(path)
    if not {"prediction", "length", "unknown"} <= set(table.column_names) or not table.num_rows:
        raise TokkaError(f"the drift reference {path} holds no predictions", "evaluate the champion again")
    spread = np.unique(np.linspace(0, table.num_rows - 1, min(most, table.num_rows)).astype(int))
    shown = table.select([name for name in table.column_names if name != "embedding"]).take(pa.array(spread))
    found = from_table(shown.to_pydict(), regression=pa.types.is_floating(table.schema.field("prediction").type))
    return replace(found, origin=(table.schema.metadata or {}).get(b"origin", UNSAID.encode()).decode())
