"""Great Expectations' Data Docs as one self-contained page: their content, no network, our summary on top."""

import re
from collections.abc import Mapping
from importlib.resources import files

import jinja2

# GX loads Bootstrap, jQuery and Vega from the network, and its logo from a bucket that counts visitors.
SCRIPTS = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
LINKS = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
IMAGES = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
NAVIGATION = re.compile(r"<nav\b.*?</nav\s*>", re.DOTALL | re.IGNORECASE)
REMOTE_ANCHORS = re.compile(r"<a\b[^>]*href=\"(?:https?:|\.\./)[^>]*>(.*?)</a\s*>", re.DOTALL | re.IGNORECASE)
HANDLERS = re.compile(r"\son\w+=(\"[^\"]*\"|'[^']*')", re.IGNORECASE)
# GX does not escape the values that it quotes: what a message says must never run.
POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
HEAD_END = re.compile(r"</head\s*>", re.IGNORECASE)
BODY = re.compile(r"(<body\b[^>]*>)(.*)</body\s*>", re.DOTALL | re.IGNORECASE)
LISTED_ROWS = 10


def render(page: str, result: Mapping[str, object]) -> str:
    """The page that GX wrote with everything remote taken out, and the verdict of validation.json first."""
    for pattern in (SCRIPTS, LINKS, IMAGES, NAVIGATION, HANDLERS):
        page = pattern.sub("", page)
    page = REMOTE_ANCHORS.sub(r"\1", page)
    folder = files("tokka.data.validation")
    styles = folder.joinpath("docs.css").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        folder.joinpath("docs.html.jinja").read_text(encoding="utf-8")
    )
    meta = '<meta charset="utf-8">' + POLICY + '<meta name="viewport" content="width=device-width">'
    page = HEAD.sub(lambda match: match[0] + meta, page, count=1)
    page = HEAD_END.sub(lambda _: f"<style>{styles}</style></head>", page, count=1)
    start = template.render(result=result, listed=LISTED_ROWS) + "<details class='original'><summary>"
    start += "Great Expectations: every expectation in full</summary>"
    return BODY.sub(lambda match: f"{match[1]}{start}{match[2]}</details></body>", page, count=1)
