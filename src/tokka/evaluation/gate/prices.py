"""What predictions and trainings cost in money: pure functions of what was measured and of evaluation.prices."""

import math
from dataclasses import dataclass

from tokka.sections import General, Prices

DAYS = 30
HOURS = 24 * DAYS
MS_PER_HOUR = 3.6e6
MS_PER_DAY = 24 * MS_PER_HOUR


@dataclass(frozen=True)
class Bill:
    """Money in `prices.currency`; `processes` is how many one-thread processes the average load keeps busy."""

    per_1000: float
    per_month: float
    processes: int


def bill(cpu_ms: float, memory_mb: float, prices: Prices) -> Bill:
    """The bill of a model that runs in processes of its own.

    `cpu_ms`: processor time of one prediction at batch 1; `memory_mb`: peak resident memory of one process, in MB of
    10^6 bytes.
    """
    processes = max(1, math.ceil(prices.requests_per_day * cpu_ms / MS_PER_DAY))
    predictions = prices.requests_per_day * DAYS
    processor = predictions * cpu_ms / MS_PER_HOUR * prices.cpu_hour
    memory = processes * memory_mb / 1e3 * prices.gb_hour * HOURS
    month = processor + memory
    return Bill(per_1000=1e3 * month / predictions, per_month=month, processes=processes)


def token_price(input_tokens: float, output_tokens: float, general: General) -> float:
    """One prediction of a language model behind an API, from its mean tokens; in the currency of its prices."""
    return (input_tokens * general.input_price + output_tokens * general.output_price) / 1e6


def training_cost(cpu_seconds: float, prices: Prices) -> float:
    """The processor time of a training, in money."""
    return cpu_seconds / 3600.0 * prices.cpu_hour


def formula(prices: Prices) -> str:
    """How a month is computed, with the prices in it, for people."""
    return (
        f"A month of {DAYS} days = {prices.requests_per_day:,} requests a day x {DAYS} x processor time of one "
        f"x {prices.cpu_hour:g} {prices.currency} per core and hour + peak memory in GB x {HOURS} h "
        f"x {prices.gb_hour:g} {prices.currency} per GB and hour, once for each process that the average load keeps "
        "busy (at least one). 1,000 predictions = the month divided by its predictions x 1,000. "
        "A language model behind an API costs its tokens instead."
    )
