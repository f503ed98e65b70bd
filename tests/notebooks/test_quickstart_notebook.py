"""The notebook runs as a newcomer runs it (with the smoke config), and is committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def test_outputs_are_stripped_and_the_badge_is_first() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "colab-badge.svg" in notebook.cells[0].source


def test_the_install_cell_is_guarded_and_pins_nothing() -> None:
    install = next(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if "%pip" in cell.source)
    assert install.startswith('import sys\n\nif "google.colab" in sys.modules:')
    assert "jax==" not in install
    assert "numpy==" not in install


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_it_runs(tmp_path: Path, smollm2: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(f"run_dir = {str(tmp_path / 'run')!r}"))
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert (tmp_path / "run" / "report.html").is_file()
