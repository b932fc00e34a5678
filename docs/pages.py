"""How the pages of docs/ become a site (a hook of MkDocs, see mkdocs.yml).

The pages are written to be read beside the sources: they link to files of the checkout, which a
site does not have. Such a link is shown as the file's path; that the file exists is checked here,
so that `mkdocs build --strict` finds dead ones. The start page is the README.
"""

# mkdocs is of an extra that linting does without.
# pyright: reportMissingImports=false

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r'(?<!!)\[([^]]+)\]\(([^)\s]+)\)')
_log = logging.getLogger('mkdocs.hooks.pages')


def on_files(files: Any, config: Any) -> Any:
    """Adds the README as the start page, its links as seen from docs/."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    text = re.sub(r'\]\((?!https?://|#)', '](../', text)
    text = re.sub(r'\]\(\.\./docs/', '](', text)
    files.append(File.generated(config, 'index.md', content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links out of docs/ become the paths of what they name; dead ones are warned of."""

    def shown(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path, _, _anchor = target.partition('#')
        inside = re.match(r'https?://|#', target) or files.get_file_from_path(path)
        if inside or not path:
            return match[0]
        where = (ROOT / 'docs' / path).resolve()
        if not where.exists():
            _log.warning('%s: %s does not exist', page.file.src_uri, target)
        name = where.relative_to(ROOT) if where.is_relative_to(ROOT) else path
        plain = text.strip('`')
        return f'`{name}`' if str(name).endswith(plain) else f'{text} (`{name}`)'

    return LINK.sub(shown, markdown)
