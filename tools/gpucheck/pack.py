"""The archive: programs with the libraries they need, the data of the tests, and this tool.

All but the tool lies in one file that Python's lzma unpacks at the first run: the programs have most
of their code in common, which a compressor sees only if it looks back far enough.
"""
import glob
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time

FOLDER = "gpu-check"  # in the archive
CONTENT = "content"   # below it, once unpacked
PAYLOAD = CONTENT + ".tar.xz"
LOOKS_BACK = 64 << 20
TEST_PROGRAMS = ("gpu.*", "gpu_*", "memory.device.device_cuda_test")
PROGRAMS = ("engramd", "engram")
# As the package has it (end of CMakeLists.txt): these belong to the node.
OF_THE_NODE = re.compile(
    r"^(ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|libcuda)\.so")


def tool(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def programs_of(build):
    """Paths of the programs that are to go along; all that CMake would have made must be there."""
    found = []
    for pattern in TEST_PROGRAMS + PROGRAMS:
        found += [p for p in sorted(glob.glob(os.path.join(build, pattern)))
                  if os.path.isfile(p) and os.access(p, os.X_OK)]
    names = {os.path.basename(p) for p in found}
    wanted = {"gpu_grid_test", "gpu.golden_test", "gpu.cuda_invariant_test", *PROGRAMS}
    missing = sorted(wanted - names)
    if missing:
        raise OSError(f"{build} lacks {', '.join(missing)}: build the targets gpu_programs, engramd "
                      "and engram of the preset ci first")
    return found


def needed_libraries(program):
    """name -> path of every shared library that is not the node's."""
    libraries = {}
    for line in tool(["ldd", program]).splitlines():
        match = re.match(r"\s*(\S+) => (\S.*?)(?: \(0x|$)", line)
        if not match or OF_THE_NODE.match(match.group(1)):
            continue
        if not match.group(2).startswith("/"):
            raise OSError(f"{program} needs {match.group(1)}: {match.group(2)}")
        libraries[match.group(1)] = match.group(2)
    return libraries


def check_place(program, folder):
    """Of an archive: nothing but the node's libraries comes from outside."""
    for name, path in needed_libraries(program).items():
        if not path.startswith(folder + os.sep):
            raise OSError(f"{os.path.basename(program)} would take {name} from {path}: its RPATH is "
                          "not $ORIGIN/../lib")


def commit_of(source):
    """With -dirty behind it where files differ; "unknown" outside a checkout."""
    try:
        commit = tool(["git", "-C", source, "rev-parse", "HEAD"]).strip()
        dirty = tool(["git", "-C", source, "status", "--porcelain", "--untracked-files=no"]).strip()
    except OSError:
        return "unknown"
    return commit + ("-dirty" if dirty else "")


def copy_program(path, to):
    shutil.copy2(path, to)
    os.chmod(to, 0o755)
    tool(["strip", to])


def collect(here, build, folder):
    """Fills the folder; returns the names of the programs."""
    source = os.path.dirname(here)
    for name in ("bin", "lib"):
        os.makedirs(os.path.join(folder, name))
    programs = programs_of(build)
    libraries = {}
    for path in programs:
        libraries.update(needed_libraries(path))
        copy_program(path, os.path.join(folder, "bin", os.path.basename(path)))
    for name, path in sorted(libraries.items()):
        shutil.copy(os.path.realpath(path), os.path.join(folder, "lib", name))
    for path in programs:
        check_place(os.path.join(folder, "bin", os.path.basename(path)), os.path.realpath(folder))
    shutil.copytree(os.path.join(source, "configs"), os.path.join(folder, "configs"))
    os.makedirs(os.path.join(folder, "tests", "golden"))
    for path in glob.glob(os.path.join(source, "tests", "golden", "*.json")):
        shutil.copy(path, os.path.join(folder, "tests", "golden"))
    checkpoints = os.path.join(build, "checkpoints")
    if not os.path.isdir(os.path.join(checkpoints, "tiny-engram")):
        raise OSError(f"{checkpoints} has no checkpoints: build the target test_checkpoints first")
    # Those of other tests, which are about files and not about a GPU, stay here.
    shutil.copytree(checkpoints, os.path.join(folder, "checkpoints"), symlinks=True,
                    ignore=shutil.ignore_patterns("layout-*"))
    return [os.path.basename(p) for p in programs]


def write_payload(content, to):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": LOOKS_BACK}]
    with lzma.open(to, "wb", filters=filters) as file, tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(content, CONTENT)


def unpack(folder):
    """Where the content of an archive lies, unpacked now if it was not yet."""
    content = os.path.join(folder, CONTENT)
    if not os.path.isdir(content):
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            with tarfile.open(os.path.join(folder, PAYLOAD), "r:xz") as tar:
                if hasattr(tarfile, "data_filter"):
                    tar.extractall(temporary, filter="data")
                else:
                    tar.extractall(temporary)
            os.rename(os.path.join(temporary, CONTENT), content)
    return content


def pack(here, build, output, limit_mib):
    """With `output` None only collects, and so checks, what an archive would hold."""
    with tempfile.TemporaryDirectory() as temporary:
        content = os.path.join(os.path.realpath(temporary), CONTENT)
        os.makedirs(content)
        names = collect(here, os.path.abspath(build), content)
        if output is None:
            print(f"GPU archive: {len(names)} programs with all they need")
            return 0
        folder = os.path.join(temporary, FOLDER)
        shutil.copytree(os.path.join(here, "gpucheck"), os.path.join(folder, "gpucheck"),
                        ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(os.path.join(here, "gpu_check"), folder)
        write_payload(content, os.path.join(folder, PAYLOAD))
        manifest = {"commit": commit_of(os.path.dirname(here)), "programs": names,
                    "packed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with open(os.path.join(folder, "manifest.json"), "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
        archive = os.path.join(temporary, "archive")
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(folder, FOLDER)
        mib = os.path.getsize(archive) / 2**20
        if mib > limit_mib:
            sizes = sorted(((os.path.getsize(p), os.path.relpath(p, content))
                            for p in glob.glob(content + "/**", recursive=True) if os.path.isfile(p)),
                           reverse=True)
            largest = ", ".join(f"{n} {s / 2**20:.1f}" for s, n in sizes[:8])
            raise OSError(f"the archive has {mib:.1f} MiB, more than {limit_mib:g}; largest files in "
                          f"MiB, not compressed: {largest}")
        shutil.copy(archive, output)
    print(f"{output}: {mib:.1f} MiB, {len(names)} programs, commit "
          f"{manifest['commit']}\nthere: tar xzf {os.path.basename(output)} && "
          f"{FOLDER}/gpu_check run -o DIRECTORY")
    return 0
