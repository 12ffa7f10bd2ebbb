"""What `make site` adds to the pages of docs/ while mkdocs builds the site: named under `hooks` in mkdocs.yml.

The front page is README.md; CONTRIBUTING.md and CHANGELOG.md are pages, too. Their links become those of the site. The
reference of the command line is what each parser's own help says. A page that would load anything from another host
stops the build.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from fourierft.cli.frame import hush_libraries
from fourierft.cli.main import COMMANDS, build_parser
from lab.folders import ROOT

FRONT = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
COMMAND_LINE = "reference/command-line.md"
COLUMNS = "92"  # of the help texts
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
FOREIGN = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon)[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]+"""
)


def on_startup(**_: Any) -> None:
    """Keep the console to what the build itself finds."""
    hush_libraries()


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages that are not files of docs/."""
    for source, page in FRONT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=LINK.sub(site_link, text)))
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links from a page of docs/ to a page of FRONT lead to that page of the site."""
    for source, page in FRONT.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that loads from another host, which would learn who reads it."""
    if found := FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} would load from another host: {found.group()}")
    return output


def site_link(link: re.Match[str]) -> str:
    """A link of a page at the root of the repository as the site has it; of a file that no page is, its name alone."""
    text, target = link.groups()
    path, mark, anchor = target.partition("#")
    if ":" in path or not path:
        return link.group()
    if path in FRONT:
        return f"{text}({FRONT[path]}{mark}{anchor})"
    if path.startswith("docs/"):
        return f"{text}({path.removeprefix('docs/')}{mark}{anchor})"
    return text.strip("![]")


def command_line() -> str:
    """The page of all commands."""
    lines = [
        "# Command line",
        "",
        "What each command's `--help` says, made from its parser when this site was built.",
        "",
    ]
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        for command in COMMANDS:
            for name, parser in parsers(build_parser([command]), command):
                depth = "#" * (1 + len(name.split()))
                lines += [f"{depth} fourierft {name}", "", "```text", parser.format_help().rstrip(), "```", ""]
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return "\n".join(lines)


def parsers(parser: argparse.ArgumentParser, command: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of a command, then those below it, each by the words that call it."""

    def below(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        if words:
            yield " ".join(words), parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    if words or name == command:
                        yield from below(child, (*words, name))

    yield from below(parser, ())
