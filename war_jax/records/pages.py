"""Pages that programs write: Markdown, and beside it the same as one HTML file that holds it all.

    write_page(workdir / 'report.md', text)             # and workdir / 'report.html'

The HTML needs no other file and no network: it can be mailed. Pictures are inside, long tables are
folded, headings can be linked to, and of the HTML in the text only ends of lines and folded parts
are taken for such; everything else is shown as text.
"""

import base64
import html
import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from war_jax.records.files import write_text

LONG = 12  # rows, from which on a table is folded
_OURS = re.compile(r'<br>|<details><summary>[^<>]*</summary>|</details>')
_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 1rem 0; }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: left; } summary { cursor: pointer; }
img { max-width: 100%; background: white; } pre { overflow-x: auto; }
pre, blockquote { border-left: 4px solid var(--line); margin-left: 0; padding: 0.4rem 1rem; }
""".strip()


def write_page(path: Path, text: str) -> None:
    """path: of the Markdown, *.md, beside which its figures/ are already there."""
    write_text(path, text)
    write_text(path.with_suffix('.html'), to_html(text, path.parent))


def to_html(text: str, folder: Path) -> str:
    """folder: that relative pictures are found from; one that is not there is left out."""
    parser = MarkdownIt('commonmark', {'html': True}).enable('table')
    tokens = parser.parse(text)
    for token in tokens:
        _show_as_text(token)
    _name_headings(tokens)
    _embed_pictures(tokens, folder)
    title = next((_plain(token) for token in tokens if token.type == 'inline'), folder.name)
    body = parser.renderer.render(_fold_tables(tokens), parser.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n<style>\n{_STYLE}\n</style>\n{body}</html>\n'
    )


def _show_as_text(token: Token) -> None:
    """HTML that no program of ours has written."""
    if token.type in ('html_block', 'html_inline') and not _OURS.fullmatch(token.content.strip()):
        token.content = html.escape(token.content)
    for child in token.children or []:
        _show_as_text(child)


def _name_headings(tokens: list[Token]) -> None:
    """As GitHub and the pages' own links do: '## What is missing' is #what-is-missing."""
    for before, token in pairwise(tokens):
        if before.type == 'heading_open':
            words = re.sub(r'[^\w\s-]', '', _plain(token).lower())
            before.attrSet('id', re.sub(r'\s', '-', words.strip()))


def _plain(token: Token) -> str:
    """The words of an inline token, without their marks."""
    return ''.join(child.content for child in token.children or [])


def _embed_pictures(tokens: list[Token], folder: Path) -> None:
    for token in tokens:
        for child in token.children or []:
            source = child.attrs.get('src') if child.type == 'image' else None
            if isinstance(source, str) and (folder / source).is_file():
                content = base64.b64encode((folder / source).read_bytes()).decode('ascii')
                child.attrs['src'] = f'data:image/png;base64,{content}'


def _fold_tables(tokens: list[Token]) -> list[Token]:
    """Each table in a frame that scrolls; with LONG rows or more, behind a line to click on."""
    found: list[Token] = []
    start = 0
    for token in tokens:
        if token.type == 'table_open':
            start = len(found)
        found.append(token)
        if token.type == 'table_close':
            rows = sum(t.type == 'tr_open' for t in found[start:]) - 1
            before, after = '<div class="wide">\n', '</div>\n'
            if rows >= LONG:
                before = f'<details>\n<summary>Table of {rows} rows</summary>\n{before}'
                after += '</details>\n'
            found.insert(start, _raw(before))
            found.append(_raw(after))
    return found


def _raw(content: str) -> Token:
    return Token('html_block', '', 0, content=content)
