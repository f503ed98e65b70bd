"""The BM25 index of a corpus: built once, cached on disk by what it was built from."""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import Stemmer
from filelock import FileLock

from rest_jax.config.limits import Natural, NotNegative, Share
from rest_jax.core.cache import cache_folder
from rest_jax.core.canonical import digest
from rest_jax.core.errors import UserError
from rest_jax.tools.search.corpus import Corpus
from rest_jax.tools.search.text import STEMMER, STOP_WORDS, stems

logger = logging.getLogger(__name__)


def _import_bm25s() -> ModuleType:
    """bm25s without jax, which it would import, if it is installed, for a top-k that nobody here uses."""
    if "jax" in sys.modules:
        return importlib.import_module("bm25s")
    sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("bm25s")
    finally:
        del sys.modules["jax"]


bm25s = _import_bm25s()
logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG


@dataclass(frozen=True)
class IndexSettings:
    """What decides a search's scores and ranks."""

    k1: NotNegative = 1.5
    """Term saturation."""
    b: Share = 0.75
    """Length normalisation."""
    title_weight: Natural = 2
    """How many times a passage's title counts beside its text."""
    exact_title_first: bool = True
    """A passage whose title is the query (normalised) stands first, as in ReAct's search[entity]."""

    def described(self) -> dict[str, Any]:
        """The settings, and the fixed parts that scores depend on too."""
        return {
            **asdict(self),
            "method": "lucene",
            "stemmer": STEMMER,
            "stop_words": sorted(STOP_WORDS),
            "bm25s": bm25s.__version__,
            "pystemmer": Stemmer.version(),
        }


class Index:
    """BM25 scores (Lucene's variant) of a corpus's passages. Safe to use from several threads."""

    def __init__(self, bm25: Any, name: str) -> None:
        self._bm25 = bm25
        self.digest = name
        """sha256 (hex) over the corpus's digest and the settings."""

    def scores(self, query: str) -> np.ndarray:
        """f32[N], one for each passage; 0 where a passage has no word of the query."""
        (words,) = stems([query])
        return self._bm25.get_scores_from_ids(self._bm25.get_tokens_ids(words))


def top(scores_n: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest positive scores, ordered by (−score, position), exactly so at the cut too.

    scores_n: f32[N]. Returns int64[min(k, number of positive scores)].
    """
    k = min(k, int(np.count_nonzero(scores_n > 0)))
    if k <= 0:
        return np.empty(0, np.int64)
    cut = np.partition(scores_n, -k)[-k]
    at_least_cut = np.flatnonzero(scores_n >= cut)
    return at_least_cut[np.argsort(-scores_n[at_least_cut], kind="stable")][:k]


def index_of(corpus: Corpus, settings: IndexSettings) -> Index:
    """The index of a corpus, from the cache if it is there; else built, and kept if the cache can be written."""
    name = digest({"corpus": corpus.digest, "settings": settings.described()})
    folder = cache_folder() / "indexes" / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            return Index(_load(folder) or _build_and_keep(corpus, settings, folder), name)
    except OSError as error:
        logger.warning("the index is built anew each time: cannot keep it in %s (%s)", folder.parent, error)
        return Index(_build(corpus, settings), name)


def _build(corpus: Corpus, settings: IndexSettings) -> Any:
    titles = stems(passage.title for passage in corpus.passages)
    texts = stems(passage.text for passage in corpus.passages)
    words = [title * settings.title_weight + text for title, text in zip(titles, texts, strict=True)]
    vocabulary = {word: id for id, word in enumerate(sorted(set().union(*words)))}
    if not vocabulary:
        raise UserError("the corpus holds no word that could be searched; every passage is stop words or punctuation")
    bm25 = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene", backend="numpy", csc_backend="numpy")
    ids = [[vocabulary[word] for word in passage] for passage in words]
    bm25.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    return bm25


def _build_and_keep(corpus: Corpus, settings: IndexSettings, folder: Path) -> Any:
    bm25 = _build(corpus, settings)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        bm25.save(unfinished, show_progress=False)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return bm25


def _load(folder: Path) -> Any | None:
    """The cached index; None when there is none, or when it is damaged (then it is removed)."""
    if not folder.is_dir():
        return None
    try:
        return bm25s.BM25.load(folder, show_progress=False)
    except (OSError, ValueError, KeyError, EOFError) as error:
        logger.warning("rebuilding a damaged index in %s (%s)", folder, error)
        shutil.rmtree(folder)
        return None
