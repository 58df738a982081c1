"""What people and programs are told in one `make demo`, as a mail server and a receiver of CloudEvents have got it.

    python -m benchmarks.notifications        # the demo's own minutes; writes results/notifications.md

Both servers are this process's own, on loopback. Nothing may come twice, and both are told the same.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.fixtures.ports import free_port
from tests.fixtures.receivers import EventServer, MailServer, text_of

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "notifications.md"
RECEIVERS = [{"name": "people"}, {"name": "programs", "protocol": "cloudevents"}]


def main() -> int:
    """Play the demo and write down what came; 1 when it did not end well, or a notification came twice."""
    with MailServer() as mail, EventServer() as bus, tempfile.TemporaryDirectory(prefix="tokka-told-") as folder:
        began = time.time()
        code = play(Path(folder), f"people={mail.url()} programs={bus.url()}")
        events = [json.loads(body) for _, body in bus.requests]
        texts = [(str(one["Subject"]), text_of(one)) for one in mail.messages]
    ids = [event["id"] for event in events]
    told = sorted(text.rstrip().rpartition("id ")[2] for _, text in texts)
    once = len(set(ids)) == len(ids) and told == sorted(ids)
    page = "\n".join(report(events, texts, began, once=once)) + "\n"
    RESULTS.write_text(page, encoding="utf-8")
    print(page)
    return 0 if code == 0 and once else 1


def play(home: Path, urls: str) -> int:
    """`tokka demo` with both receivers, in a home of its own; its exit code."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["notifications"] = {**(params.get("notifications") or {}), "receivers": RECEIVERS}
    (home / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    own = {"TOKKA_HOME": str(home), "TOKKA_ROOT": str(ROOT), "TOKKA_PORT": str(free_port()), "TOKKA_NOTIFY_URLS": urls}
    command = [sys.executable, "-m", "tokka.cli.main", "demo", "--params", str(home / "params.yaml")]
    return subprocess.run(command, env={**os.environ, **own}, cwd=ROOT, check=False).returncode


def report(events: list[dict], texts: list[tuple[str, str]], began: float, *, once: bool) -> Iterator[str]:
    """The page: each event in the order in which it came, and each mail as it was read."""
    yield f"# What is told in one `make demo` ({time.strftime('%F', time.gmtime(began))})"
    yield ""
    yield f"{len(events)} CloudEvents and {len(texts)} mails; each {'once' if once else 'NOT ONCE'}."
    yield ""
    yield "| time | type | subject | what |"
    yield "|---|---|---|---|"
    for event in events:
        yield f"| {event['time']} | {event['type']} | {event['subject']} | {event['data']['what']} |"
    for subject, text in texts:
        yield f"\n## {subject}\n\n```\n{text.strip()}\n```"


if __name__ == "__main__":
    sys.exit(main())
