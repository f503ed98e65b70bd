"""Published questions as TFDS datasets: downloaded by checksum, or read from a local folder; without TensorFlow.

Importing this module imports tensorflow_datasets, which takes a second: do it where it is needed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from filelock import FileLock
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.utils import Size

from rest_jax.core.canonical import digest, digest_file
from rest_jax.core.errors import UserError, reason
from rest_jax.tasks.published import Dataset, File, Row


class PublishedQuestions(tfds.core.GeneratorBasedBuilder):
    """The builder of any `Dataset`: from the files in `source`, or downloaded where that is None."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Questions, gold answers and what is known of them."}  # noqa: RUF012 (TFDS reads it so)

    def __init__(self, dataset: Dataset, source: Path | None, **rest: Any) -> None:
        self._dataset, self._source = dataset, source
        super().__init__(**rest)

    @property
    def url_infos(self) -> dict[str, UrlInfo]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The size and sha256 that TFDS holds each download to."""
        published = (file for file in self._dataset.files.values() if file.url)
        return {file.url: UrlInfo(Size(file.size), file.sha256, file.name) for file in published}

    def _info(self) -> tfds.core.DatasetInfo:
        text, fields = tfds.features.Text(), self._dataset.fields
        features = {name: tfds.features.Sequence(text) if kind is list else text for name, kind in fields.items()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage=self._dataset.homepage
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        files = self._dataset.files
        if self._source is None:
            paths = dl_manager.download({split: file.url for split, file in files.items()})
        else:
            paths = {split: self._source / file.name for split, file in files.items()}
        return {split: self._generate_examples(Path(path)) for split, path in paths.items()}

    def _generate_examples(self, path: Path) -> Iterator[tuple[str, Row]]:
        for row in self._dataset.parse(path):
            yield row["id"], {name: row[name] for name in self._dataset.fields}


def read_rows(dataset: Dataset, data: Path | None, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of a dataset's splits, by TFDS split name, sorted by id: of its files in `data`, in a folder of the
    dataset's name, else (None) of its downloads.

    It is prepared once under `folder`/tfds, in a folder named by the files' digests, the fields and the dataset's
    version. Raises UserError for a file that is missing, is not the published one or is malformed, and for a download
    that fails.
    """
    source = None if data is None else data / dataset.name
    files = dataset.files.values()
    digests = [_published(dataset, file) if source is None else _found(dataset, file, source) for file in files]
    prepared = folder / "tfds" / digest([dataset.version, list(dataset.fields), digests])[:16]
    prepared.mkdir(parents=True, exist_ok=True)
    with FileLock(prepared / "lock"):
        tfds.disable_progress_bar()
        builder = PublishedQuestions(dataset, source, data_dir=prepared, file_format="array_record")
        # TFDS announces a download even where nothing is downloaded, and on stdout, which belongs to the caller.
        with contextlib.redirect_stdout(io.StringIO()), _download_told(dataset):
            builder.download_and_prepare(download_dir=folder / "downloads")
        read = builder.as_data_source
        sources = {split: read(split=split) for split in dataset.files}  # pyright: ignore[reportCallIssue]
    return {split: sorted(map(_plain, source), key=lambda row: row["id"]) for split, source in sources.items()}


def _published(dataset: Dataset, file: File) -> str:
    """The sha256 that a download will have."""
    if not file.url:
        raise UserError(f"dataset '{dataset.name}': {file.name} has to be given; {dataset.obtain}")
    return file.sha256


def _found(dataset: Dataset, file: File, source: Path) -> str:
    """The sha256 of a local file: the published one, where that is known."""
    path = source / file.name
    if not path.is_file():
        raise UserError(f"dataset '{dataset.name}': no file {path}; {dataset.obtain}")
    found = digest_file(path)
    if file.sha256 not in ("", found):
        raise UserError(
            f"{path}: not the published file (sha256 {found[:12]}… instead of {file.sha256[:12]}…); {dataset.obtain}"
        )
    ids: set[str] = set()
    for row in dataset.parse(path):  # read whole, so that what is wrong is told before TFDS is in the way
        if row["id"] in ids:
            raise UserError(f"{path}: the id '{row['id']}' comes twice; give every question its own")
        ids.add(row["id"])
    return found


@contextlib.contextmanager
def _download_told(dataset: Dataset) -> Iterator[None]:
    try:
        yield
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        said = " ".join(reason(error).split())
        raise UserError(f"dataset '{dataset.name}': it cannot be prepared ({said}); {dataset.obtain}") from error


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.decode() if isinstance(value, bytes) else [text.decode() for text in value]
        for name, value in row.items()
    }
