"""The worker: takes what was pushed, decides, starts one run per content, and tells what came of it.

    python -m tokka.triggers.worker      # `tokka hook work`, as the stack runs it

One worker works at a time, by a claim in the record; another waits for its end. Before a content is started, its key is
claimed: a worker that dies between the start and the record leaves a claim of which it is known that nobody holds it,
and the next one starts the same run again, which by its own key is the one that was started.
"""

import logging
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping

from tokka import failpoints
from tokka.database import PATIENCE_S
from tokka.deployment.record import leases, owner
from tokka.deployment.record.claims import Claims
from tokka.deployment.record.connection import RecordDatabase
from tokka.errors import TokkaError, UsageError
from tokka.files import JsonObject
from tokka.notifications import Event
from tokka.params import Params, load_params
from tokka.processes import json_log
from tokka.settings import Settings
from tokka.triggers import hooks, telling
from tokka.triggers.commits import Commits, claim_name
from tokka.triggers.decision import PARAMS, Decision, Push, State, allows
from tokka.triggers.git import is_commit
from tokka.triggers.queue import UNDER_WAY, Entry, Head, Known, Queue
from tokka.triggers.runner import REFUSED, WRONG, Ran, Runner, Start, follow, outcome

logger = logging.getLogger("tokka.triggers")

ROLE = "git-worker"
LOOK_S = 0.3
RETRY_S, LONGEST_RETRY_S = 20.0, 3600.0
# What a host has not taken after so many tries stays untold.
TOLD_TRIES = 20


class Worker:
    """One worker; `start` starts a run."""

    def __init__(self, settings: Settings, params: Params, start: Start | None = None) -> None:
        self.settings, self.triggers, self.endpoint = settings, params.triggers, params.registry.model
        self.record = RecordDatabase(settings.record_url, patience_s=PATIENCE_S)
        self.queue, self.claims = Queue(self.record), Claims(self.record)
        self.commits = Commits(settings, params, self.queue)
        self.known = self.commits.known
        secrets = (one.token_variable for one in self.known.values())
        self.runner = Runner(settings, params, tuple(name + end for name in secrets for end in ("", "_FILE")))
        self.start: Start = start or self.runner
        self.job = f"{ROLE}-{uuid.uuid4().hex[:12]}"
        self.ending = threading.Event()
        self._polled = 0.0

    def run(self, *, once: bool = False) -> int:
        """Work until `end`, or once through what waits; the number of pushes that were decided on.

        TokkaError when another worker works and `once` cannot wait for it.
        """
        count = 0
        while self.claims.take(ROLE, self.job, owner.this_process())[0] != "mine":
            if once:
                raise TokkaError("another worker works on what was pushed", "`tokka hook status` shows what it does")
            if self.ending.wait(LOOK_S):
                return 0
        # The claim and those of contents live by one lease.
        with leases.kept(self.settings.model_copy(update={"job": self.job})):
            try:
                while not self.ending.is_set():
                    count += self.step(poll=once)
                    if once or self.ending.wait(LOOK_S):
                        break
            finally:
                leases.Leases(self.record).end(self.job, succeeded=True)
        return count

    def end(self) -> None:
        """Stop after what is under way; a run on this machine is told to end, and goes on at the next start."""
        self.ending.set()
        self.runner.end()

    def step(self, *, poll: bool = False) -> int:
        """Look once: hooks, missed hooks, the queue, runs elsewhere, what is to be told."""
        hooks.drain(hooks.spool(self.settings), self.queue)
        if poll or time.monotonic() - self._polled > self.triggers.poll_s or not self._polled:
            self.poll()
        entries = self.queue.due()
        for entry in entries:
            if self.ending.is_set():
                break
            self._attempt(entry)
        for entry in self.queue.due("started"):
            self._follow(entry)
        for entry in self.queue.untold():
            self._tell(entry)
        return len(entries)

    def poll(self) -> None:
        """Queue what branches hold that was never decided on: a hook was missed, or none is installed."""
        self._polled = time.monotonic()
        self.queue.sweep()
        for repository in self.known.values():
            try:
                tips, known = self.commits.mirror(repository).tips(), self.queue.heads(repository.name)
            except TokkaError as error:
                logger.warning("%s cannot be looked at: %s", repository.name, error.message)
                continue
            self._compare(repository.name, {ref: tip for ref, tip in tips.items() if allows(repository, ref)}, known)

    def _compare(self, name: str, tips: Mapping[str, str], known: Mapping[str, Head]) -> None:
        """Queue the branches of a repository that hold what was neither looked at nor waits for it."""
        waiting = self.queue.waiting(name)
        if not known:
            # Seen for the first time: what is there was not pushed just now.
            self.queue.begin(name, {ref: tip for ref, tip in tips.items() if ref not in waiting})
            return
        for ref in known.keys() - tips.keys():
            self.queue.forget(name, ref)
        for ref, tip in tips.items():
            before = known[ref].seen if ref in known else ""
            if before != tip and tip not in waiting.get(ref, ()):
                self.queue.put(Push(repository=name, ref=ref, before=before, after=tip, source="poll"))

    def _attempt(self, entry: Entry) -> None:
        try:
            decision = self.commits.look(entry.push)
        except UsageError as error:
            self.queue.settle(entry, "ignored", error.message, head="")
            return
        except TokkaError as error:
            logger.warning("%s of %s waits: %s", entry.push.ref, entry.push.repository, error.message)
            self.queue.put_off(entry, pause(entry.tries), error.message, failed=True)
            return
        logger.info("%s: %s", decision.verdict, decision.reason, extra={"push": entry.push.model_dump()})
        made = self.commits.made(decision.key)
        if decision.verdict == "start":
            self._start(entry, decision)
        elif made is not None and made.get("commit") == entry.push.after:
            # Whoever started it died before it was written down here.
            self._settle(entry, decision, made)
        else:
            head: Known = "seen" if decision.verdict == "refused" else "decided" if decision.key else ""
            # What is pushed to any other branch is nobody's news.
            event = self._not_retrained(entry, decision.reason) if decision.is_news else None
            self.queue.settle(entry, decision.verdict, decision.reason, key=decision.key, head=head, event=event)

    def _start(self, entry: Entry, decision: Decision) -> None:
        if self.claims.take(claim_name(decision.key), self.job, owner.this_process())[0] == "wait":
            self.queue.put_off(entry, RETRY_S, "the same content is being started by another worker")
            return
        commit = entry.push.after
        self._announce(entry._replace(reason=decision.reason))
        self.queue.put_off(entry, 0.0, f"{UNDER_WAY} since {time.strftime('%F %T')}")
        try:
            mirror = self.commits.mirror(self.known[entry.push.repository])
            with mirror.checkout(commit) as tree, failpoints.at("trigger"):
                ran = self.start(tree, self.commits.params(mirror, commit), decision.key, commit)
        except TokkaError as error:
            ran = Ran(code=error.exit_code, told={"error": f"{error.message}; {error.hint}"})
        if not self.ending.is_set() or ran.code in (0, REFUSED):
            self._conclude(entry, decision, ran)
        else:
            self.queue.put_off(entry, 0.0, "its run was interrupted; the next worker goes on with it")

    def _conclude(self, entry: Entry, decision: Decision, ran: Ran) -> None:
        """Write down how a start ended: the claim first, so that the content is never started again."""
        found = {**outcome(ran, self.triggers.start), "commit": entry.push.after, "changes": decision.changes}
        if ran.code in (REFUSED, WRONG) and "error" in ran.told:
            found |= {"verdict": "refuse", "reasons": [ran.error], "refused": ran.error, "wrong": ran.code == WRONG}
        if ran.code in (0, REFUSED, WRONG):
            with failpoints.at("trigger-record"):
                self.claims.conclude(claim_name(decision.key), self.job, found)
            self._settle(entry, decision, found)
        elif entry.tries + 1 < self.triggers.tries:
            self.queue.put_off(entry, pause(entry.tries), ran.error, failed=True)
        else:
            reason = f"failed {entry.tries + 1} times: {ran.error}"
            event = self._not_retrained(entry, reason)
            self.queue.settle(entry, "failed", reason, key=decision.key, head="seen", event=event)

    def _settle(self, entry: Entry, decision: Decision, made: JsonObject) -> None:
        """Write down in the queue what the claim says already."""
        state: State = "refused" if "refused" in made else "started" if made["verdict"] == "started" else "done"
        reason = str(made.get("refused") or "; ".join(made.get("changes") or decision.changes))
        # What ran has told its refusal itself.
        event = self._not_retrained(entry, reason) if made.get("wrong") else None
        self.queue.settle(entry, state, reason, key=decision.key, result=made, event=event)

    def _not_retrained(self, entry: Entry, reason: str) -> Event:
        return telling.not_retrained(entry, reason, self.endpoint)

    def _announce(self, entry: Entry) -> None:
        """A status while it runs; one that the host does not take is no reason not to run."""
        try:
            telling.set_status(self.known[entry.push.repository], entry)
        except TokkaError as error:
            logger.warning("%s", error.message)

    def _follow(self, entry: Entry) -> None:
        try:
            end = follow(entry)
        except TokkaError as error:
            self.queue.put_off(entry, pause(entry.tries), error.message)
            return
        if end is None:
            self.queue.put_off(entry, RETRY_S)
        else:
            self.queue.settle(entry, end.state, end.reason, key=entry.key, result=end.result, head="")

    def _tell(self, entry: Entry) -> None:
        repository = self.known.get(entry.push.repository)
        if repository is None or not is_commit(entry.push.after) or entry.tries >= TOLD_TRIES:
            self.queue.mark_told(entry)
            return

        def note() -> None:
            mirror = self.commits.mirror(repository)
            if entry.key and mirror.has(entry.push.after):
                mirror.note(entry.push.after, telling.note(entry))

        # One that cannot be told holds the other not up.
        problems = [error.message for tell in (lambda: telling.set_status(repository, entry), note)
                    if (error := _failure(tell))]  # fmt: skip
        if problems:
            logger.warning("the end of %s is not told yet: %s", entry.push.after[:12], "; ".join(problems))
            self.queue.put_off(entry, pause(entry.tries), failed=True)
        else:
            self.queue.mark_told(entry)


def _failure(work: Callable[[], None]) -> TokkaError | None:
    try:
        work()
    except TokkaError as error:
        return error
    return None


def pause(tries: int) -> float:
    """Seconds until the next try."""
    return float(min(RETRY_S * 2**tries, LONGEST_RETRY_S))


def main() -> int:
    """Work until SIGTERM; returns the exit code."""
    settings = Settings.from_environment()
    json_log.start("triggers")
    try:
        params = load_params(settings.root / PARAMS)
        work(Worker(settings, params))
    except TokkaError as error:
        logger.error(error.message, extra={"hint": error.hint})
        return error.exit_code
    return 0


def work(worker: Worker) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.end())
    worker.run()


if __name__ == "__main__":
    sys.exit(main())
