"""The compiled CPU kernels, an optional extension: where they cannot be built, the package installs without them.

Everything else about the package is in pyproject.toml. Environment:

- TSP3D_BUILD=0 skips the build, TSP3D_BUILD=1 makes a failed build an error instead of a warning.
- CXX, CXXFLAGS as usual; MAX_JOBS compilers at once.

`pip install -e . --no-build-isolation` builds against the torch that is installed; so does
`python setup.py build_ext --inplace`.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIBRARY = "_C_cpu" + (".dll" if os.name == "nt" else ".so")
# The stable ABI of torch 2.10: the library serves that version and all later ones.
TORCH_TARGET_VERSION = "0x020a000000000000"


def find_compiler() -> list[str]:
    """The C++ compiler as a command. RuntimeError where there is none."""
    named = os.environ.get("CXX")
    for command in [named] if named else ["g++", "c++", "clang++"]:
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    raise RuntimeError(
        f"CXX={named} was not found" if named else "no C++ compiler was found (Debian/Ubuntu: apt-get install g++)"
    )


def torch_paths() -> tuple[str, Path]:
    """Version and folder of the installed torch. RuntimeError where it is missing or too old."""
    try:
        import torch
    except ImportError as error:
        raise RuntimeError(
            "torch is not installed in the build environment; install it first and pass --no-build-isolation"
        ) from error
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 10):
        raise RuntimeError(f"torch {torch.__version__} is older than 2.10, the first with the stable ABI that we use")
    return torch.__version__, Path(torch.__file__).parent


def has_openmp(compiler: list[str], scratch: Path) -> bool:
    """Whether a program with OpenMP compiles and links."""
    source = scratch / "openmp.cpp"
    source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
    command = [*compiler, "-fopenmp", str(source), "-o", str(scratch / "openmp")]
    return subprocess.run(command, capture_output=True).returncode == 0


def compile_library(target: Path, scratch: Path) -> None:
    """Compile csrc into one shared library. RuntimeError, with the compiler's words, where that fails."""
    compiler = find_compiler()
    version, torch = torch_paths()
    scratch.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    openmp = ["-fopenmp"] if has_openmp(compiler, scratch) else []
    flags = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-psabi", *openmp]
    flags += [f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}", f'-DTSP3D_BUILT_WITH_TORCH="{version}"']
    flags += ["-isystem", str(torch / "include"), *shlex.split(os.environ.get("CXXFLAGS", ""))]
    sources = sorted((ROOT / "csrc").rglob("*.cpp"))

    def run(command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}\n{done.stderr.strip()}")
        if done.stderr.strip():
            print(done.stderr.strip(), file=sys.stderr)

    def compile_one(source: Path) -> str:
        made = scratch / ("_".join(source.relative_to(ROOT / "csrc").with_suffix(".o").parts))
        run([*compiler, *flags, "-c", str(source), "-o", str(made)])
        return str(made)

    jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
    with ThreadPoolExecutor(jobs) as pool:
        objects = list(pool.map(compile_one, sources))
    # No rpath to torch: its libraries are in the process before ours is loaded.
    link = ["-shared", *openmp, f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    if platform.system() == "Darwin":
        link = ["-dynamiclib", "-undefined", "dynamic_lookup", *openmp]
    run([*compiler, *objects, *link, "-o", str(target)])


class BuildKernels(build_ext):
    """Builds without Python's headers, and does not let a failure stop the install."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")[:-1], LIBRARY)

    def build_extension(self, ext: Extension) -> None:
        try:
            compile_library(Path(self.get_ext_fullpath(ext.name)).resolve(), Path(self.build_temp).resolve())
        except (RuntimeError, OSError) as error:
            if os.environ.get("TSP3D_BUILD") == "1":
                raise
            print(
                f"warning: tsp3d: the compiled kernels were not built, the package will run on plain PyTorch: {error}",
                file=sys.stderr,
            )

    def copy_extensions_to_source(self) -> None:
        """For in-place and editable builds: beside the package, if there is a library.

        Under another name first: a process that starts meanwhile never meets half a library.
        """
        built, target = Path(self.build_lib, "tsp3d", LIBRARY), ROOT / "tsp3d" / LIBRARY
        if built.exists():
            shutil.copyfile(built, target.with_suffix(".unfinished"))
            target.with_suffix(".unfinished").replace(target)

    def get_outputs(self) -> list[str]:
        return [path for path in super().get_outputs() if Path(path).exists()]


wanted = os.environ.get("TSP3D_BUILD", "auto") != "0" and sysconfig.get_platform() != "win32"
kernels = Extension("tsp3d._C_cpu", sources=[], optional=True)
setup(ext_modules=[kernels] if wanted else [], cmdclass={"build_ext": BuildKernels})
