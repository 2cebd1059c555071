"""A hook of mkdocs (see mkdocs.yml): pages are made from the files in the checkout, without copies."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

NO_ALT = 'alt="No description has been provided for this image"'  # nbconvert's template ignores the output's own text
ROOT = Path(__file__).resolve().parent.parent
START = "notebooks/index.ipynb"  # the first page
PAGES = ("README.md", "docs/*.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINKED = (  # files that pages link to
    "LICENSE",
    "CITATION.cff",
    "figures/reference/*.png",
    "results/reference/*.csv",
    "workflow/profiles/*.yaml",
)


def notebooks() -> list[Path]:
    """All notebooks but the start page, in the order of their numbers."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def title(page: Path) -> str:
    """The heading of a notebook or a page in Markdown."""
    text = page.read_text(encoding="utf-8")
    first = "".join(json.loads(text)["cells"][0]["source"]) if page.suffix == ".ipynb" else text
    return first.splitlines()[0].lstrip("# ")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    pages = [{title(notebook): f"notebooks/{notebook.name}"} for notebook in notebooks()]
    config.nav = [
        {"Start here": "index.md"},
        {"The study": "README.md"},
        {"Notebooks": pages},
        *({title(page): f"docs/{page.name}"} for page in sorted((ROOT / "docs").glob("*.md"))),
        {"Contributing": "CONTRIBUTING.md"},
        {"Changelog": "CHANGELOG.md"},
    ]
    return config


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    # pages in docs/ keep their folder, so that links between files of the checkout hold on the site, too
    for page in [file for file in files if file.src_uri.endswith(".md")]:
        files.remove(page)
    for file in [*notebooks(), *(found for pattern in (*PAGES, *LINKED) for found in sorted(ROOT.glob(pattern)))]:
        files.append(File(file.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    files.get_file_from_path("README.md").dest_uri = "README.html"  # else it would be the first page
    for page in start_page(config):
        files.append(page)
    return files


def start_page(config: MkDocsConfig) -> list[File]:
    """The site's first page and its pictures, made of the notebook that JupyterLab opens at."""
    text, made = [], []
    for cell in json.loads((ROOT / START).read_text(encoding="utf-8"))["cells"]:
        said = re.sub(r"\]\((?=\w+\.ipynb)", "](notebooks/", "".join(cell["source"])).replace("](../", "](")
        for name, kinds in cell.get("attachments", {}).items():
            picture = f"pictures/{cell['id']}.png"
            said = said.replace(f"(attachment:{name})", f"({picture})")
            made.append(File.generated(config, picture, content=base64.b64decode(kinds["image/png"])))
        text.append(said)
    return [File.generated(config, "index.md", content="\n\n".join(text)), *made]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Have links to the start page lead to the site's first page."""
    return markdown.replace(f"]({START})", "](index.md)")


def on_page_content(content: str, page: Page, **_: object) -> str:
    """Fold a notebook's set-up, and give figures the alternative texts of its outputs (`ptame_study.figures.show`)."""
    if not page.file.src_uri.endswith(".ipynb"):
        return content
    content = folded(content)
    first, *others = content.split(NO_ALT)
    texts = alternatives(ROOT / page.file.src_uri)
    if len(texts) != len(others):
        found = f"{len(others)} images, and alternative texts of {len(texts)}"
        raise PluginError(f"{page.file.src_uri} has {found}: show every figure by figures.show")
    return first + "".join(f'alt="{html.escape(text)}"{rest}' for text, rest in zip(texts, others, strict=True))


def folded(content: str) -> str:
    """The code of cells with the tag hide-input, to be opened by a click."""
    cell = re.compile(r'<div[^>]*celltag_hide-input[^>]*>\s*<div class="jp-Cell-inputWrapper"[^>]*>')
    begin = 0
    while found := cell.search(content, begin):
        depth, end = 1, found.end()
        while depth:  # to the end of the input's own div
            tag = re.compile(r"<(/?)div\b").search(content, end)
            depth, end = depth + (-1 if tag[1] else 1), tag.end()
        inside = content[found.end() : tag.start()]
        opened = f'<details class="folded"><summary>code</summary>{inside}</details>'
        content = content[: found.end()] + opened + content[tag.start() :]
        begin = found.end() + len(opened)
    return content


def alternatives(notebook: Path) -> list[str]:
    """The alternative texts of a notebook's figures, in order."""
    outputs = [output for cell in json.loads(notebook.read_text())["cells"] for output in cell.get("outputs", [])]
    kinds = [(output["metadata"], kind) for output in outputs for kind in output.get("data", {})]
    images = [metadata.get(kind, {}) for metadata, kind in kinds if kind in ("image/png", "image/jpeg")]
    return [image["alt"] for image in images if "alt" in image]
