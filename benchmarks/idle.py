"""What a stack that nobody asks costs: processor time of all its processes, in percent of one core.

    tokka run && python benchmarks/idle.py --seconds 300

It looks at the stack of TOKKA_HOME, which must run and be left alone meanwhile; every process of it counts, children
that ended in between as well (by their parents' account).
"""

import argparse
import time

import psutil

from tokka.settings import Settings
from tokka.stack import stack


def processes(settings: Settings) -> dict[int, psutil.Process]:
    """Every live process that was started for this home, by its environment."""
    found = {}
    for one in psutil.process_iter():
        try:
            if one.environ().get("TOKKA_HOME") == str(settings.home) and one.pid != psutil.Process().pid:
                found[one.pid] = one
        except psutil.Error:
            continue
    return found


def spent(one: psutil.Process) -> float:
    """Seconds of processor time, of its ended children too; 0 for one that has ended."""
    try:
        return sum(one.cpu_times()[:4])
    except psutil.Error:
        return 0.0


def name(one: psutil.Process) -> str:
    """The module or program that it runs."""
    words = one.cmdline()
    return next((word for word in words if word.startswith(("tokka.", "mlflow"))), words[0].rsplit("/", 1)[-1])


def main() -> None:
    """Wait, and print a row per process and their sum."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0)
    seconds = parser.parse_args().seconds
    settings = Settings.from_environment()
    info = stack.status(settings)
    if info is None:
        raise SystemExit("no stack is running: `tokka up` starts it")
    before = {pid: (one, name(one), spent(one)) for pid, one in processes(settings).items()}
    time.sleep(seconds)
    rows = [(title, spent(one) - earlier) for one, title, earlier in before.values()]
    print("| process | % of one core |\n|---|---|")
    for title, used in sorted(rows, key=lambda row: -row[1]):
        print(f"| {title} | {100 * used / seconds:.2f} |")
    print(f"| all, over {seconds:.0f} s | {100 * sum(used for _, used in rows) / seconds:.2f} |")


if __name__ == "__main__":
    main()
