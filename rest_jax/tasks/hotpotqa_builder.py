"""HotpotQA's questions as a TFDS dataset, prepared from local JSONL files and read without TensorFlow.

Importing this module imports tensorflow_datasets, which takes a second: do it where it is needed.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from filelock import FileLock

from rest_jax.core.canonical import digest, digest_file
from rest_jax.tasks.files import read_jsonl

FILES = {"train": "hotpot_train_sample.jsonl", "validation": "hotpot_dev_sample.jsonl"}
FIELDS = {"id": str, "question": str, "answer": str, "type": str, "level": str, "supporting_titles": list}


class HotpotqaFiles(tfds.core.GeneratorBasedBuilder):
    """Yang et al. 2018, from a folder that holds `FILES`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Questions, answers, difficulty and gold titles."}  # noqa: RUF012 (TFDS reads it so)
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"A folder with {' and '.join(FILES.values())}, JSONL with {', '.join(FIELDS)}."

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        features = {name: tfds.features.Sequence(text) if kind is list else text for name, kind in FIELDS.items()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), homepage="https://hotpotqa.github.io/"
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(Path(dl_manager.manual_dir) / name) for split, name in FILES.items()}

    def _generate_examples(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in read_jsonl(path, FIELDS, "question"):
            yield row["id"], {name: row[name] for name in FIELDS}


def read_rows(source: Path, prepared: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of `FIELDS` of each split of a folder, by TFDS split name; sorted by id.

    The dataset is prepared once under `prepared`, in a folder named by the files' digest. Raises UserError for a
    missing file or a malformed line.
    """
    for name in FILES.values():
        for _ in read_jsonl(source / name, FIELDS, "question"):
            pass
    folder = prepared / digest([digest_file(source / name) for name in FILES.values()])[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        tfds.disable_progress_bar()
        builder = HotpotqaFiles(data_dir=folder, file_format="array_record")
        # TFDS announces a download, though nothing is downloaded, and on stdout, which belongs to the caller.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=source))
        sources = {split: tfds.data_source(builder.name, split=split, data_dir=folder) for split in FILES}
    return {split: sorted((_plain(row) for row in rows), key=lambda row: row["id"]) for split, rows in sources.items()}


def _plain(row: Any) -> dict[str, Any]:
    return {
        name: [t.decode() for t in value] if FIELDS[name] is list else value.decode() for name, value in row.items()
    }
