"""What is authentic, by each host's own rules, and which push it tells."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokka.sections_serving import Repository
from tokka.triggers.webhooks import Delivery, Unauthorised, Unusable, authenticate, push

SECRET, OLD = b"the secret that holds now", b"the secret that held before"
NOW = 1_800_000_000.0
A, B = "a" * 40, "b" * 40
KNOWN = {"team/helpdesk": Repository(name="team/helpdesk", url="/srv/git/helpdesk.git")}


def told(name="team/helpdesk", ref="refs/heads/main", before=A, after=B):
    tree = {"ref": ref, "before": before, "after": after, "repository": {"full_name": name}}
    return json.dumps({**tree, "project": {"path_with_namespace": name}}).encode()


def signed(host, body, secret=SECRET, delivery="1", moment=NOW):
    digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
    if host == "github":
        return {"x-hub-signature-256": f"sha256={digest}", "x-github-delivery": delivery, "x-github-event": "push"}
    if host == "gitea":
        # It sends GitHub's headers too.
        own = {"x-gitea-signature": digest, "x-gitea-delivery": delivery, "x-gitea-event": "push"}
        return {**own, "x-hub-signature-256": f"sha256={digest}", "x-github-delivery": delivery}
    if host == "gitlab token":
        return {"x-gitlab-token": secret.decode(), "x-gitlab-event-uuid": delivery, "x-gitlab-event": "Push Hook"}
    whole = f"{delivery}.{moment:.0f}.".encode() + body
    digest = base64.b64encode(hmac.new(secret, whole, hashlib.sha256).digest()).decode()
    return {"webhook-id": delivery, "webhook-timestamp": f"{moment:.0f}", "webhook-signature": f"v1,bad v1,{digest}",
            "x-gitlab-event": "Push Hook"}  # fmt: skip


HOSTS = ("github", "gitea", "gitlab token", "gitlab")


def check(headers, body, secrets=(SECRET, OLD), now=NOW):
    return authenticate(headers, body, secrets, now=now, window_s=300.0)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("secret", [SECRET, OLD])
def test_either_secret_is_enough_and_another_is_not(host, secret):
    found = check(signed(host, told(), secret), told())
    assert (found.host, push(found, told(), KNOWN).after) == (host.split()[0], B)
    with pytest.raises(Unauthorised):
        check(signed(host, told(), secret), told(), [b"a secret of somebody else"])


@pytest.mark.parametrize("host", ["github", "gitea", "gitlab"])
@given(place=st.integers(0, 1_000), bit=st.integers(0, 7))
def test_a_body_with_one_bit_changed_is_not_authentic(host, place, bit):
    body = bytearray(told())
    body[place % len(body)] ^= 1 << bit
    with pytest.raises(Unauthorised):
        check(signed(host, told()), bytes(body))


@given(st.dictionaries(st.sampled_from([name for host in HOSTS for name in signed(host, b"")]), st.text(max_size=80)))
def test_no_headers_that_somebody_makes_up_are_authentic(headers):
    with pytest.raises(Unauthorised):
        check(headers, told())


@pytest.mark.parametrize("moment", ["", "x", "-1", str(int(NOW - 301)), str(int(NOW + 301)), "٣"])
def test_a_signed_time_that_is_old_or_none_is_not_authentic(moment):
    body = told()
    digest = hmac.new(SECRET, f"1.{moment}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "webhook-id": "1",
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    with pytest.raises(Unauthorised):
        check(headers, body)


def test_a_signing_token_of_gitlab_is_base64_after_its_mark():
    key = bytes(range(32))
    token = b"whsec_" + base64.b64encode(key)
    assert check(signed("gitlab", told(), key), told(), [token]).host == "gitlab"
    with pytest.raises(Unauthorised):
        check(signed("gitlab", told(), b"whsec_no base64 at all"), told(), [token])


@pytest.mark.parametrize("host", HOSTS)
def test_the_same_body_under_another_id_is_known_again(host):
    first, second = (check(signed(host, told(), delivery=name), told()) for name in "12")
    if host != "gitlab":  # whose id is signed
        assert set(first.ids) & set(second.ids)
    assert first.ids != second.ids


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "no push"), (b"[" * 100_000, "no push"), (b"{}", "no push"), (b'{"repository": 1}', "no push"),
        (told(name="other/project"), "repository"), (told(ref="refs/tags/v1"), "ref"), (told(ref="main"), "ref"),
        (told(ref="refs/heads/other"), "ref"), (told(after="; rm -rf /"), "commits"),
        (told(before="--help"), "commits"), (told(ref="refs/heads/main" + "x" * 300), "ref"),
    ],
)  # fmt: skip
def test_an_authentic_body_that_tells_no_push_of_ours_says_why(body, reason):
    with pytest.raises(Unusable, match=reason):
        push(Delivery("github", ("1",), "push"), body, KNOWN)


@pytest.mark.parametrize("event", ["pull_request", "ping", "", "Merge Request Hook", "Tag Push Hook"])
def test_only_pushes_are_acted_upon(event):
    with pytest.raises(Unusable, match="only pushes"):
        push(Delivery("github", ("1",), event), told(), KNOWN)


def test_a_new_and_a_deleted_branch_are_told_by_zeros():
    made = push(Delivery("gitea", ("1",), "push"), told(before="0" * 40), KNOWN)
    assert made.before == ""
    assert push(Delivery("gitea", ("1",), "push"), told(after="0" * 40), KNOWN).after == "0" * 40
