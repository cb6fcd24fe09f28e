"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnn_deploy.models import catalogue
from bnn_deploy.models.summary import describe


def test_the_example_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    sizes, passed = capsys.readouterr().out.splitlines()
    file_bytes, float_bytes = map(int, sizes.split())
    assert file_bytes * 10 < float_bytes
    assert passed == "True"


@pytest.mark.parametrize("name", catalogue())
def test_the_table_of_the_zoo(name: str, repository: Path) -> None:
    described = describe(name)
    text = (repository / "README.md").read_text("utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (\d+x\d+x\d+ \|.*)\|$", text, re.MULTILINE)
    shape, parameters, share, weights, _ = (cell.strip() for cell in row.split("|"))
    assert shape == "x".join(map(str, described["input_shape"]))
    assert parameters == f"{described['parameters']:,}"
    assert share == f"{100 * described['one_bit_share']:.1f} %"
    assert weights == ("shipped" if described["weights"] else "your checkpoint")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}.md" for name in ("design",))])
def test_links_lead_somewhere(document: str, repository: Path) -> None:
    path = repository / document
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
