"""The admin server: no foreign name leads here, and its page needs nobody else."""

import pytest

from tokka.stack import admin


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:8082", True), ("localhost:8082", True), ("localhost", True), ("evil.example:8082", False),
        ("127.0.0.1.evil.example", False), ("", False),
    ],
)  # fmt: skip
def test_a_foreign_name_that_leads_here_is_refused(host, local):
    assert admin.is_local(host) is local


def test_the_page_needs_nobody_else():
    page = admin.PAGE.read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "innerHTML" not in page
