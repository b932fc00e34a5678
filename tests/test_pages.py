"""The pages that people read: every link leads somewhere, and the site has every page."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
LINK = re.compile(r'\]\(([^)\s]+)\)')


def anchor(heading: str) -> str:
    """As GitHub and MkDocs name a heading, of letters, digits, hyphens and spaces."""
    return re.sub(r'[\s-]+', '-', re.sub(r'[^\w\s-]', '', heading.lower()).strip())


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith(('https://', 'http://')):
            continue
        path, _, fragment = target.partition('#')
        other = (page.parent / path) if path else page
        assert other.exists(), target
        if fragment:
            headings = re.findall(r'^#+ (.+)$', other.read_text(), re.MULTILINE)
            assert fragment in map(anchor, headings), target


def test_the_site_has_every_page():
    site = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())

    def pages(nav):
        for entry in nav:
            for value in entry.values():
                yield from pages(value) if isinstance(value, list) else [value]

    assert sorted(pages(site['nav'])) == sorted(
        {page.name for page in PAGES} - {'README.md'} | {'index.md'}
    )
