"""What a push brought: the facts about its commit, out of a copy of the repository that params.yaml names."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from tokka.deployment.record.claims import Claims
from tokka.errors import TokkaError, UsageError
from tokka.files import JsonObject
from tokka.params import Params, parse_params
from tokka.sections_serving import Repository
from tokka.settings import Settings
from tokka.triggers.decision import PARAMS, Content, Decision, Facts, Push, allows, content, content_key, decide
from tokka.triggers.git import Clone, Mirror, git, is_commit
from tokka.triggers.queue import Queue


def repositories(params: Params, settings: Settings) -> dict[str, Repository]:
    """The repositories whose pushes count, by name: those of params.yaml, or the project's own."""
    return {one.name: one for one in params.triggers.repositories or (own(settings),)}


def own(settings: Settings) -> Repository:
    """The repository that the project is in, at its root or in a folder of it."""
    root = settings.root.resolve()
    try:
        top = Path(git("rev-parse", "--show-toplevel", folder=root).strip())
    except TokkaError:  # whoever uses it is told that it is none
        top = root
    folder = root.relative_to(top).as_posix() if root != top else ""
    return Repository(name=own_name(settings), url=str(top), folder=folder)


def own_name(settings: Settings) -> str:
    """The name of the project's own repository, by its folder."""
    name = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in settings.root.name)
    return name.lstrip("._-") or "project"


def claim_name(key: str) -> str:
    """The claim under which one content is started once."""
    return f"git-{key}"


class Commits:
    """The commits of the known repositories, and what was decided on them."""

    def __init__(self, settings: Settings, params: Params, queue: Queue) -> None:
        self.settings, self.triggers, self.queue = settings, params.triggers, queue
        self.known, self.claims = repositories(params, settings), Claims(queue.record)

    def mirror(self, repository: Repository) -> Mirror:
        """The copy of a repository."""
        here = ":" not in repository.url
        url = str(self.settings.root / repository.url) if here else repository.url
        return Mirror(self.settings.home, repository.name, url, repository.folder)

    def look(self, push: Push) -> Decision:
        """Decide on a push, and start nothing.

        UsageError for a repository that is not named in params.yaml, TokkaError when it cannot be fetched.
        """
        repository = self.known.get(push.repository)
        if repository is None:
            raise UsageError(f"{push.repository} is no repository of triggers.repositories", "name it in params.yaml")
        if not allows(repository, push.ref):
            reason = f"{push.ref} is none of its branches that may start a run"
            return Decision(verdict="ignored", reason=reason, is_news=False)
        return decide(self._facts(push, self.mirror(repository)))

    def made(self, key: str) -> JsonObject | None:
        """What came of a content, once something did."""
        return self.claims.result(claim_name(key)) if key else None

    def params(self, clone: Clone, commit: str) -> Params:
        """The params.yaml of a commit; UsageError when it has none, or it cannot be used."""
        try:
            tree = yaml.safe_load(clone.text(commit, PARAMS))
        except TokkaError:
            where = f"the folder {clone.project} of the repository" if clone.project else "the root of the repository"
            hint = "add it there, or name the project's folder: triggers.repositories has `folder`"
            raise UsageError(f"commit {commit[:12]} has no {PARAMS} in {where}", hint) from None
        except (yaml.YAMLError, ValueError) as error:
            what = f"{PARAMS} of {commit[:12]} is not YAML: {' '.join(str(error).split())}"
            raise UsageError(what, "mend the line that is named") from None
        if not isinstance(tree, dict):
            raise UsageError(f"{PARAMS} of {commit[:12]} holds no sections", "see the params.yaml of Tokka")
        return parse_params(tree, origin=f"{PARAMS} of {commit[:12]}")

    def _facts(self, push: Push, mirror: Mirror) -> Facts:
        if not is_commit(push.after):
            self.queue.forget(push.repository, push.ref)
            return Facts(commit="gone")
        # What was fetched before may have been forced away since.
        if not (mirror.fetch(push.ref) and mirror.has(push.after) and mirror.is_on(push.after, push.ref)):
            return Facts(commit="gone")
        heads = self.queue.heads(push.repository)
        head = heads.get(push.ref)
        if head and _is_overtaken(push, head.seen, mirror):
            return Facts(commit="older")
        try:
            after = self.content(mirror, push.after)
        except UsageError as error:
            return Facts(fault=error.message)
        before = self.before(mirror, head.decided if head else push.before)
        if before is None:
            # A new branch may hold what another one was decided on.
            others = (self.before(mirror, other.decided) for other in heads.values())
            before = next((other for other in others if other == after), None)
        return Facts(before=before, after=after, made=told(self.made(content_key(after))))

    def before(self, clone: Clone, commit: str) -> Content | None:
        """A content that is known; None where it is not, or could not be trained."""
        try:
            return self.content(clone, commit) if clone.has(commit) else None
        except TokkaError:
            return None

    def content(self, clone: Clone, commit: str) -> Content:
        """What of a commit a training follows from; UsageError when its params.yaml cannot be used."""
        return content(clone.blobs(commit), self.params(clone, commit), self.triggers.code)


def _is_overtaken(push: Push, seen: str, mirror: Mirror) -> bool:
    """Whether a later commit, which still is on the branch, was looked at before."""
    later = seen != push.after and mirror.has(seen) and mirror.is_ancestor(push.after, seen)
    return later and mirror.is_on(seen, push.ref)


def told(made: Mapping[str, object] | None) -> str:
    """What came of a content before, in words; empty when nothing did."""
    if made is None:
        return ""
    version = f" as version {made['version']}" if made.get("version") else ""
    return f"{made.get('verdict')}{version}, from commit {str(made.get('commit'))[:12]}"
