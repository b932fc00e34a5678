"""The HTML beside a page of Markdown. Oracle: Python's own HTML parser."""

import base64
from html.parser import HTMLParser

import pytest

from war_jax.records.pages import LONG, write_page

PIXEL = base64.b64decode(
    b'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk'
    b'+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
)


class Outline(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.attributes, self.stack = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in ('meta', 'br'):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def table(rows):
    return '| k | λ |\n| ---: | :--- |\n' + ''.join(f'| {i} | *x* |\n' for i in range(rows))


@pytest.fixture
def outline(tmp_path):
    def make(text):
        write_page(tmp_path / 'report.md', text)
        assert (tmp_path / 'report.md').read_text() == text
        return Outline((tmp_path / 'report.html').read_text())

    return make


def test_a_page_holds_its_pictures(outline, tmp_path):
    (tmp_path / 'figures').mkdir()
    (tmp_path / 'figures/a.png').write_bytes(PIXEL)
    found = outline('# Width & λ\n\n![What it shows](figures/a.png)\n\n![gone](figures/b.png)\n')
    first, second = (attrs for tag, attrs in found.attributes if tag == 'img')
    head, _, content = first['src'].partition(',')
    assert head == 'data:image/png;base64' and base64.b64decode(content) == PIXEL
    assert first['alt'] == 'What it shows' and second['src'] == 'figures/b.png'
    assert found.words.count('Width & λ') == 2  # title and heading
    assert found.stack == []  # every element is closed, in its order


@pytest.mark.parametrize(('rows', 'folded'), [(LONG - 1, 0), (LONG, 1)])
def test_long_tables_are_folded(outline, rows, folded):
    found = outline(f'# Rows\n\n{table(rows)}\nBehind.\n')
    assert found.tags.count('details') == folded
    assert found.tags.count('tr') == rows + 1 and found.tags.count('em') == rows
    assert (f'Table of {rows} rows' in found.words) == bool(folded)


def test_html_in_the_text_is_text(outline):
    found = outline('# <script>alert(1)</script>\n\n<img src="http://example.org/x.png">\n')
    assert not {'script', 'img'} & set(found.tags)
    assert any('<script>' in word for word in found.words)


def test_what_reports_are_written_with(outline):
    """Folded parts, ends of lines in cells, escaped names, and links to headings."""
    found = outline(
        '# svhn\\_cropped\n\nAll are [below](#how-it-was-done-by-us).\n\n'
        '<details><summary>In LaTeX</summary>\n\n```latex\na & b\n```\n\n</details>\n\n'
        '| a |\n| --- |\n| one<br>two |\n\n## How it was done, *by us*\n'
    )
    assert found.stack == [] and {'details', 'summary', 'br', 'table'} <= set(found.tags)
    attributes = [attrs for _, attrs in found.attributes]
    assert {'href': '#how-it-was-done-by-us'} in attributes
    assert {'id': 'how-it-was-done-by-us'} in attributes
    assert found.words.count('svhn_cropped') == 2 and 'a & b\n' in found.words
    assert not any('<' in word for word in found.words)
