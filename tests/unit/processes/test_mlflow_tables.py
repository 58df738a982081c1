"""Two replicas of MLflow's server that start at once."""

import sys
from concurrent.futures import ThreadPoolExecutor

from tokka.processes import mlflow_tables

MIGRATION = """
import os, sys
note = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(note, b"begins ")
os.write(note, b"ends ")
sys.exit(4)
"""


def test_one_replica_at_a_time_migrates(postgres, tmp_path):
    url, note = postgres.database(), tmp_path / "note"
    command = [sys.executable, "-c", MIGRATION, str(note)]
    with ThreadPoolExecutor(3) as replicas:
        codes = [*replicas.map(lambda _: mlflow_tables.upgrade(url, command), range(3))]
    assert codes == [4, 4, 4]
    assert note.read_text().split() == ["begins", "ends"] * 3
