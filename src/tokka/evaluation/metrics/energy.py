"""An estimate of the electricity that predictions take, by codecarbon (https://codecarbon.io), without a network.

codecarbon reads the processor's energy counters where they may be read, and else multiplies time by the processor's
nominal power; grams of CO2 follow from the country's mix of electricity. So it is an estimate, and named so.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Enough to average over texts at little cost.
SECONDS = 0.4
MAXIMUM_PREDICTIONS = 200
PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Energy:
    """Of 1,000 predictions, estimated: watt-hours and grams of CO2; None when `reason` says why there is none."""

    wh: float | None = None
    g_co2: float | None = None
    reason: str = "not asked for"


def estimate(ask: Callable[[int], object], country: str) -> Energy:
    """Let `ask(number)` predict one text after the other for a moment. Never raises: an estimate may be missing.

    `country`: ISO 3166, three letters; empty: nothing is measured.
    """
    if not country:
        return Energy()
    try:
        return _estimate(ask, country)
    except Exception as error:  # whatever a sensor or its library lacks: figures for free are no reason to fail
        return Energy(reason=f"{type(error).__name__}: {str(error)[:120]}")


def _estimate(ask: Callable[[int], object], country: str) -> Energy:
    logger = logging.getLogger("codecarbon")
    logger.disabled = True  # it would write to the streams that carry the figures
    _name_processor()
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        save_to_file=False,
        log_level="critical",
        tracking_mode="process",
        allow_multiple_runs=True,
        # Once, at the end: it needs no thread that wakes up in between.
        measure_power_secs=3600,
    )
    tracker.start()
    done, until = 0, time.perf_counter() + SECONDS
    while done < MAXIMUM_PREDICTIONS and (done == 0 or time.perf_counter() < until):
        ask(done)
        done += 1
    tracker.stop()
    found = tracker.final_emissions_data
    if not found.energy_consumed > 0:
        return Energy(reason="codecarbon saw no energy")
    return Energy(found.energy_consumed * 1e6 / done, found.emissions * 1e6 / done, "")


def processor_name() -> str:
    """As the kernel gives it; empty where it does not."""
    lines = PROCESSORS.read_text(errors="replace").splitlines() if PROCESSORS.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _name_processor() -> None:
    """codecarbon asks py-cpuinfo, which spends a second in another process on a name that the kernel gives at once."""
    import cpuinfo  # type: ignore[import-untyped]  # it ships no types

    if name := processor_name():
        cpuinfo.get_cpu_info = lambda: {"brand_raw": name}
