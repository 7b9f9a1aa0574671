"""Gives MkDocs the pages of the repository where they lie, so that their links hold."""

import pathlib

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = (
    *("README.md", "REPRODUCTION.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
    *("docs/*.md", "figures/output/*.png", "launch/*"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces what MkDocs found in docs/ by `PAGES`, with their paths from the root."""
    root = pathlib.Path(config.config_file_path).parent
    kept = [file for file in files if file.abs_src_path is None or file.src_dir != config.docs_dir]
    pages = [
        File.generated(config, str(path.relative_to(root)), abs_src_path=str(path))
        for pattern in PAGES
        for path in sorted(root.glob(pattern))
        if path.is_file()
    ]
    return Files([*kept, *pages])
