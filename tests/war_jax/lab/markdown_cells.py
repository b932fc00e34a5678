"""Markdown tables as a reader sees them, by an independent CommonMark parser."""

from markdown_it import MarkdownIt
from markdown_it.token import Token


def parse_markdown(text: str) -> list[list[str]]:
    """Cells of all tables as a reader sees them; any markup in a cell is an error."""

    def visible(token: Token) -> str:
        assert token.type in ('text', 'text_special', 'html_inline'), token
        return '\n' if token.content == '<br>' else token.content

    rows: list[list[str]] = []
    for token in MarkdownIt('commonmark').enable(['table', 'strikethrough']).parse(text):
        if token.type == 'tr_open':
            rows.append([])
        elif token.type == 'inline':
            rows[-1].append(''.join(map(visible, token.children or [])))
    return rows
