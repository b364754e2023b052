"""The compiled kernels, an optional extension: where they cannot be built, the package installs without them.

Everything else about the package is in pyproject.toml. Environment:

- TSP3D_BUILD=0 skips the build, TSP3D_BUILD=1 makes a failed build an error instead of a warning.
- TSP3D_CUDA=1 builds the CUDA kernels too, whether or not there is a GPU; that they cannot be built is then an error.
  CUDA_HOME is the toolkit (default /usr/local/cuda), TSP3D_CUDA_ARCHS what to build for (default
  "8.0;9.0;10.0;12.0+PTX", or "8.0;9.0+PTX" where the toolkit is older than 12.8; 8.0 is the least). TSP3D_CUDA=only
  leaves the CPU's kernels alone.
- CXX, CXXFLAGS, NVCCFLAGS as usual; MAX_JOBS compilers at once.

`pip install -e . --no-build-isolation` builds against the torch that is installed; so does
`python setup.py build_ext --inplace`.
"""

from __future__ import annotations

import os
import platform
import re
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
CUDA_ARCHS = "8.0;9.0;10.0;12.0+PTX"
CUDA_ARCHS_BEFORE_12_8 = "8.0;9.0+PTX"  # nvcc of CUDA 12.6, which torch 2.10 is built with too, knows no Blackwell
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


def run(command: list[str]) -> None:
    """Run a compiler. RuntimeError, with its words, where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{(done.stdout + done.stderr).strip()}")
    if done.stderr.strip():
        print(done.stderr.strip(), file=sys.stderr)


def compile_sources(suffix: str, compiler: list[str], scratch: Path) -> list[str]:
    """Object files of all sources in csrc with a suffix."""

    def compile_one(source: Path) -> str:
        made = scratch / ("_".join(source.relative_to(ROOT / "csrc").with_suffix(f"{suffix}.o").parts))
        run([*compiler, "-c", str(source), "-o", str(made)])
        return str(made)

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        return list(pool.map(compile_one, sorted((ROOT / "csrc").rglob(f"*{suffix}"))))


def torch_flags(version: str, torch: Path) -> list[str]:
    """Compiler flags of everything that uses torch's stable ABI."""
    return [
        f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
        f'-DTSP3D_BUILT_WITH_TORCH="{version}"',
        "-isystem",
        str(torch / "include"),
    ]


def compile_cpu(target: Path, scratch: Path) -> None:
    """Compile the C++ sources into one shared library. RuntimeError, with the compiler's words, where that fails."""
    compiler = find_compiler()
    version, torch = torch_paths()
    openmp = ["-fopenmp"] if has_openmp(compiler, scratch) else []
    flags = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-trapping-math", "-fno-math-errno", "-fPIC"]
    flags += ["-fvisibility=hidden", "-Wall", "-Wno-psabi", *openmp]
    flags += [*torch_flags(version, torch), *shlex.split(os.environ.get("CXXFLAGS", ""))]
    objects = compile_sources(".cpp", [*compiler, *flags], scratch)
    # No rpath to torch: its libraries are in the process before ours is loaded.
    link = ["-shared", *openmp, f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"]
    if platform.system() == "Darwin":
        link = ["-dynamiclib", "-undefined", "dynamic_lookup", *openmp]
    run([*compiler, *objects, *link, "-o", str(target)])


def find_nvcc() -> tuple[str, str]:
    """Path and version of the CUDA compiler. RuntimeError where there is none."""
    home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
    nvcc = home / "bin" / "nvcc"
    if not nvcc.exists():
        raise RuntimeError(f"TSP3D_CUDA=1, but there is no {nvcc}; set CUDA_HOME to the folder of a CUDA toolkit")
    told = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=True).stdout
    version = next((line.split("release ")[1].split(",")[0] for line in told.splitlines() if "release " in line), "?")
    return str(nvcc), version


def architecture_flags(architectures: str) -> list[str]:
    """nvcc's flags for "8.0;9.0+PTX": machine code for each, and code for later GPUs where +PTX says so."""
    flags = []
    for name in architectures.replace(",", ";").replace(" ", ";").split(";"):
        number, plus, ptx = name.partition("+")
        digits = number.replace(".", "")
        if not name:
            continue
        if not digits.rstrip("af").isdigit() or (plus and ptx != "PTX") or int(digits.rstrip("af")) < 80:
            raise RuntimeError(f'TSP3D_CUDA_ARCHS: "{name}" is not like 9.0 or 9.0+PTX, with 8.0 as the least')
        flags += ["-gencode", f"arch=compute_{digits},code=sm_{digits}"]
        if plus:
            flags += ["-gencode", f"arch=compute_{digits},code=compute_{digits}"]
    return flags


def default_architectures(release: str) -> str:
    """What a release of nvcc ("13.0", or "?") builds for, unless told."""
    known = re.match(r"(\d+)\.(\d+)", release)
    return CUDA_ARCHS_BEFORE_12_8 if known and (int(known[1]), int(known[2])) < (12, 8) else CUDA_ARCHS


def compile_cuda(target: Path, scratch: Path) -> None:
    """Compile the CUDA sources into one shared library. Needs no GPU, and no torch with CUDA."""
    compiler, (nvcc, release) = find_compiler(), find_nvcc()
    version, torch = torch_paths()
    wanted = os.environ.get("TSP3D_CUDA_ARCHS") or default_architectures(release)
    flags = ["-std=c++17", "-O3", "--extended-lambda", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall", "-ccbin"]
    flags += [compiler[0], *architecture_flags(wanted), *torch_flags(version, torch)]
    flags += [f'-DTSP3D_NVCC_VERSION="{release}"', f'-DTSP3D_CUDA_ARCHITECTURES="{wanted.replace(";", ",")}"']
    flags += shlex.split(os.environ.get("NVCCFLAGS", ""))
    objects = compile_sources(".cu", [nvcc, *flags], scratch)
    # CUDA's runtime goes in, so that the toolkit's version need not be that of torch. libtorch names libtorch_cuda,
    # which has the current stream; where torch has no CUDA the name stays open, and nothing loads this library.
    link = ["-shared", "-cudart", "static", f"-L{torch / 'lib'}", "-Xlinker", "--no-as-needed"]
    link += ["-ltorch", "-ltorch_cpu", "-lc10"]
    if (torch / "lib" / "libtorch_cuda.so").exists():
        link.append("-ltorch_cuda")
    run([nvcc, "-ccbin", compiler[0], *objects, *link, "-o", str(target)])


class BuildKernels(build_ext):
    """Builds without Python's headers, and does not let a failure of what was not asked for stop the install."""

    def get_ext_filename(self, fullname: str) -> str:
        *packages, name = fullname.split(".")
        return os.path.join(*packages, name + ".so")

    def build_extension(self, ext: Extension) -> None:
        target, scratch = Path(self.get_ext_fullpath(ext.name)).resolve(), Path(self.build_temp).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        if ext.name == CUDA:
            compile_cuda(target, scratch)
            return
        try:
            compile_cpu(target, scratch)
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
        for ext in self.extensions:
            name = self.get_ext_filename(ext.name)
            built, target = Path(self.build_lib, name), ROOT / name
            if built.exists():
                shutil.copyfile(built, target.with_suffix(".unfinished"))
                target.with_suffix(".unfinished").replace(target)

    def get_outputs(self) -> list[str]:
        return [path for path in super().get_outputs() if Path(path).exists()]


CPU, CUDA = "tsp3d._C_cpu", "tsp3d._C_cuda"
names = {"1": [CPU, CUDA], "only": [CUDA]}.get(os.environ.get("TSP3D_CUDA", ""), [CPU])
if os.environ.get("TSP3D_BUILD", "auto") == "0" or sysconfig.get_platform() == "win32":
    names = []
kernels = [Extension(name, sources=[], optional=name == CPU) for name in names]
setup(ext_modules=kernels, cmdclass={"build_ext": BuildKernels})
