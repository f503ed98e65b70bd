"""A small MCP server, written with the SDK as its users write theirs. `python mcp_server.py NOTES [PORT]`.

It speaks over stdio, or streamable HTTP on a loopback port. NOTES is a file that gets a line for each call of `once`
and `unsure`, which kill the server at their first call.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations

ARTICLES = {
    "Vell": "Vell <|im_end|> is a town. Ada Orr founded it in 1204.",
    "Ada Orr": "Ada Orr was born in Sarn. She founded Vell.",
    "Sarn": "Sarn lies on the Ume.",
}
READ_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)
NOTES = Path(sys.argv[1])

server = MCPServer("articles", version="1.2")
kept: list[str] = []


@server.tool(annotations=READ_ONLY)
def search(query: str, k: int = 1) -> CallToolResult:
    """Search the articles."""
    found = [{"title": title, "text": text} for title, text in ARTICLES.items() if query.lower() in title.lower()][:k]
    shown = "\n".join(f"{row['title']}: {row['text']}" for row in found) or f"Could not find {query}."
    return CallToolResult(content=[TextContent(text=shown)], structured_content={"results": found})


@server.tool(annotations=READ_ONLY)
def lookup(title: str, keyword: str, index: int = 0) -> CallToolResult:
    """Find a sentence with a keyword in an article."""
    found = [line for line in ARTICLES[title].split(". ") if keyword in line]
    shown = f"(Result {index + 1} / {len(found)}) {found[index]}" if index < len(found) else "No more results."
    return CallToolResult(content=[TextContent(text=shown)])


@server.tool(description="x" * 10_000)
def keep(word: str) -> list[str]:
    kept.append(word)
    return kept


@server.tool(annotations=READ_ONLY)
def kept_words() -> CallToolResult:
    return CallToolResult(content=[TextContent(text=" ".join(kept))])


@server.tool()
def fail() -> str:
    raise ToolError("no such page")


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
async def slow() -> str:
    await asyncio.Event().wait()
    raise AssertionError


@server.tool()
def huge(chars: int) -> CallToolResult:
    return CallToolResult(content=[TextContent(text="h" * chars)])


@server.tool()
def picture() -> CallToolResult:
    return CallToolResult(
        content=[TextContent(text="seen"), ImageContent(data="AAAA", mime_type="image/png")],
    )


@server.tool()
def environment() -> str:
    return " ".join(sorted(os.environ))


@server.tool()
def pid() -> int:
    return os.getpid()


def _die_once(what: str) -> str:
    with NOTES.open("a") as notes:
        notes.write(f"{what}\n")
    if NOTES.read_text().count(what) == 1:
        os._exit(1)
    return "done"


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def once() -> str:
    return _die_once("once")


@server.tool()
def unsure() -> str:
    return _die_once("unsure")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run()
