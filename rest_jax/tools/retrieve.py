"""Search-R1's `POST /retrieve`, spoken over our own `search`: whoever trains against that server can point at this one.

Request
    {"queries": ["…", …], "topk": 3, "return_scores": true}, or one query: {"query": "…", …}. Without `topk` a search
    shows as many passages as its own settings say; further fields are ignored, as that server ignores them.
Response
    {"result": [[{"document": {"id": "…", "contents": "TITLE\\nTEXT"}, "score": 1.5}, …], …]}, a list for each query;
    without `return_scores` the bare documents. A query that finds nothing, or that no search takes, has an empty list.

Source: search_r1/search/retrieval_server.py of Search-R1 (Jin et al. 2025), whose clients take the first line of
`contents` for the title. As they know of no failed query, a failure of the infrastructure fails the whole request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rest_jax.core.effects import ToolReply
from rest_jax.tools import protocol
from rest_jax.tools.protocol import MAX_CALLS, MAX_REPLY_BYTES, Call, ProtocolError


@dataclass(frozen=True)
class Retrieval:
    """What a client wants to have retrieved."""

    queries: tuple[str, ...]
    topk: int | None = None
    return_scores: bool = False

    def calls(self) -> list[Call]:
        """The searches that answer it, numbered by their queries; blank queries, which find nothing, left out."""
        shown = {} if self.topk is None else {"k": self.topk}
        return [
            Call(place, "search", {"query": query, **shown})
            for place, query in enumerate(self.queries)
            if query.strip()
        ]

    def documents(self, reply: ToolReply) -> bytes:
        """What one search found, as JSON as FastAPI writes it. Raises ValueError where it names no documents, or where
        that is no JSON."""
        try:
            found = self._documents(reply)
        except (KeyError, TypeError, AttributeError):
            raise ValueError("its replies do not name the documents that it found") from None
        try:
            return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except TypeError as error:
            raise ValueError(str(error)) from None

    def _documents(self, reply: ToolReply) -> list[dict[str, Any]]:
        results: Sequence[Mapping[str, Any]] = reply.data["results"] if reply.ok else ()
        if not self.return_scores:
            return [_document(result) for result in results]
        return [{"document": _document(result), "score": result.get("score", 0.0)} for result in results]


class TooMany(Exception):
    """The documents take more room than an answer has."""


class Response:
    """The answer as it grows: a list of documents for each query, empty until it is added."""

    def __init__(self, queries: int) -> None:
        self._lists = [b"[]"] * queries
        self._left = MAX_REPLY_BYTES

    def add(self, place: int, documents: bytes) -> None:
        """Raises TooMany when there is no more room."""
        self._left -= len(documents)
        if self._left < 0:
            raise TooMany(f"more than {MAX_REPLY_BYTES} bytes of documents; ask for fewer at a time")
        self._lists[place] = documents

    def body(self) -> bytes:
        return b'{"result":[' + b",".join(self._lists) + b"]}"


def parse(body: bytes) -> Retrieval:
    """A request. Raises ProtocolError for one that is none."""
    fields = protocol.parse_json(body)
    if not isinstance(fields, dict):
        raise ProtocolError("request: not a JSON object")
    queries: Any = fields["queries"] if "queries" in fields else [fields.get("query")]
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise ProtocolError("request: expected queries, a list of texts, or query, one text")
    if len(queries) > MAX_CALLS:
        raise ProtocolError(f"request: {len(queries)} queries are more than {MAX_CALLS}")
    topk, scores = fields.get("topk"), fields.get("return_scores", False)
    if topk is not None and (not isinstance(topk, int) or isinstance(topk, bool) or topk < 0):
        raise ProtocolError("request: topk is no whole number")
    if not isinstance(scores, bool):
        raise ProtocolError("request: return_scores is neither true nor false")
    return Retrieval(tuple(queries), topk or None, scores)


def _document(result: Mapping[str, Any]) -> dict[str, Any]:
    """A search's result as a document: a passage has a text and its place in the corpus, a web page snippet and URL."""
    text = result["text"] if "text" in result else result.get("snippet", "")
    return {"id": result.get("id", result.get("url", "")), "contents": f"{result['title']}\n{text}"}
