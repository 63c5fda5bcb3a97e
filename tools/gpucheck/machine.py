"""What the machine is: GPU, driver, link, memory, page modes, and where CUDA's libraries lie."""
import ctypes
import glob
import json
import os
import platform
import re
import shutil
import subprocess
import sys

LIBRARY = "libcublasLt.so.13"
SMI_FIELDS = [
    "name", "driver_version", "pci.bus_id", "memory.total", "compute_cap", "clocks.sm", "clocks.mem",
    "clocks.max.sm", "clocks.max.mem", "pcie.link.gen.current", "pcie.link.gen.max",
    "pcie.link.width.current", "pcie.link.width.max", "power.limit", "temperature.gpu",
    "ecc.mode.current", "mig.mode.current", "persistence_mode", "clocks_throttle_reasons.active"]

# Asked in a process of its own: a driver that hangs must not stop this one. Prints JSON.
PROBE = r"""
import ctypes, json, sys
answer = {}
def get(library, name, *types):
    function = getattr(library, name); function.argtypes = types; return function
try:
    cuda = ctypes.CDLL(sys.argv[1])
    code = cuda.cuInit(0)
    if code != 0:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        answer["no_gpu"] = "cuInit: error %d (%s)" % (code, (text.value or b"").decode())
    else:
        version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        cuda.cuDriverGetVersion(ctypes.byref(version))
        cuda.cuDeviceGetCount(ctypes.byref(count))
        answer["cuda_driver"] = "%d.%d" % (version.value // 1000, version.value % 1000 // 10)
        answer["count"] = count.value
        if count.value == 0:
            answer["no_gpu"] = "the driver sees no device"
        else:
            cuda.cuDeviceGet(ctypes.byref(device), 0)
            text = ctypes.create_string_buffer(256)
            cuda.cuDeviceGetName(text, 256, device)
            answer["name"] = text.value.decode()
            cuda.cuDeviceGetPCIBusId(text, 256, device)
            answer["pci"] = text.value.decode().lower()
            size = ctypes.c_size_t()
            cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
            answer["memory_bytes"] = size.value
            numbers = {"sm_count": 16, "l2_bytes": 38, "memory_bus_bits": 37, "major": 75, "minor": 76,
                       "pageable_memory_access": 88, "registered_pointer_is_host_pointer": 91,
                       "host_register": 99, "uses_host_page_tables": 100,
                       "read_only_register": 113, "host_numa_node": 134,
                       "host_numa_memory_management": 141}
            for name, number in numbers.items():
                value = ctypes.c_int()
                if cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device) == 0:
                    answer[name] = value.value
except Exception as error:
    answer["no_gpu"] = str(error)
try:
    library = ctypes.CDLL(sys.argv[2])
    library.cublasLtGetVersion.restype = ctypes.c_size_t
    answer["cublas_lt"] = library.cublasLtGetVersion()
except Exception as error:
    answer["no_cublas_lt"] = str(error)
print(json.dumps(answer))
"""


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def output_of(command, seconds=30):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def loads(name):
    try:
        ctypes.CDLL(name)
        return True
    except OSError:
        return False


def search_path():
    return [d for d in os.environ.get("LD_LIBRARY_PATH", "").split(":") if d]


def python_folders():
    """Of this Python and of the one that `python3` is: wheels of NVIDIA bring CUDA's libraries."""
    folders = list(sys.path)
    other = output_of(["python3", "-c", "import sys; print('\\n'.join(sys.path))"])
    return folders + (other or "").split("\n")


def find_library(name, folders):
    """(path, its folder where programs must be told of it, else None)."""
    if loads(name):
        return name, None
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(folder, name)), reverse=True):
            if loads(path):
                return path, os.path.dirname(path)
    return None, None


def find_driver():
    return find_library("libcuda.so.1", search_path() + [
        "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib"])


def find_cublas():
    toolkit = [os.environ[v] for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    toolkit += ["/usr/local/cuda", *sorted(glob.glob("/usr/local/cuda-13*"), reverse=True), "/opt/cuda"]
    folders = [os.path.join(t, d) for t in toolkit for d in ("lib64", "lib", "targets/*/lib")]
    wheels = [os.path.join(p, "nvidia", "*", "lib") for p in python_folders() if p]
    return find_library(LIBRARY, search_path() + folders + wheels)


def meminfo():
    values = dict(re.findall(r"^(\w+(?:\(\w+\))?):\s+(\d+)", read("/proc/meminfo") or "", re.M))
    return {k: int(values[k]) * 1024 for k in ("MemTotal", "MemAvailable", "AnonHugePages")
            if k in values}


def huge_pools():
    pools = {}
    for folder in sorted(glob.glob("/sys/kernel/mm/hugepages/hugepages-*")):
        pools[folder.rsplit("-", 1)[1]] = {
            "total": read(folder + "/nr_hugepages"), "free": read(folder + "/free_hugepages")}
    return pools


def host():
    cpu = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo") or "", re.M)
    memory = meminfo()
    limit = read("/sys/fs/cgroup/memory.max")
    nodes = sorted(glob.glob("/sys/devices/system/node/node[0-9]*"))
    locked = output_of(["bash", "-c", "ulimit -l"])
    return {
        "kernel": platform.release(), "python": platform.python_version(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory.get("MemTotal"), "memory_available_bytes": memory.get("MemAvailable"),
        "memory_limit": limit, "numa_nodes": {
            os.path.basename(n): {"cpus": read(n + "/cpulist"),
                                  "memory": (read(n + "/meminfo") or "").split("\n")[0]}
            for n in nodes},
        "transparent_huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "transparent_huge_pages_defrag": read("/sys/kernel/mm/transparent_hugepage/defrag"),
        "huge_page_pools": huge_pools(), "locked_memory_limit": locked}


def link(pci):
    """What the kernel knows of the PCIe link: it reads the same through a virtual machine or less."""
    folder = "/sys/bus/pci/devices/" + (pci or "")
    names = ("current_link_speed", "current_link_width", "max_link_speed", "max_link_width", "numa_node")
    values = {name: read(os.path.join(folder, name)) for name in names} if pci else {}
    return {k: v for k, v in values.items() if v is not None}


def smi():
    answer = output_of(["nvidia-smi", "--id=0", "--query-gpu=" + ",".join(SMI_FIELDS),
                        "--format=csv,noheader"])
    if answer is None:  # a field that this driver does not know makes it refuse all
        pairs = {f: output_of(["nvidia-smi", "--id=0", "--query-gpu=" + f, "--format=csv,noheader"])
                 for f in SMI_FIELDS} if shutil.which("nvidia-smi") else {}
        return {k: v for k, v in pairs.items() if v is not None}
    return dict(zip(SMI_FIELDS, [v.strip() for v in answer.split("\n")[0].split(",")]))


def find_sanitizer():
    folders = [*glob.glob("/usr/local/cuda*/bin"), *glob.glob("/usr/local/cuda*/compute-sanitizer")]
    return shutil.which("compute-sanitizer") or next(
        (p for p in (os.path.join(f, "compute-sanitizer") for f in sorted(folders, reverse=True))
         if os.access(p, os.X_OK)), None)


def describe():
    """`gpu` is None where none can be used; `no_gpu` then says why."""
    driver, driver_folder = find_driver()
    cublas, cublas_folder = find_cublas()
    answer = {}
    if driver is None:
        answer["no_gpu"] = "no libcuda.so.1, which the driver brings"
    probe = output_of([sys.executable, "-c", PROBE, driver or "libcuda.so.1", cublas or LIBRARY], 60)
    if probe is not None:
        answer = {**json.loads(probe), **answer}
    else:
        answer.setdefault("no_gpu", "the driver did not answer within a minute")
    told = smi()
    gpu = None
    if "no_gpu" not in answer:
        gpu = {k: v for k, v in answer.items() if not k.startswith(("no_", "cublas", "cuda"))}
    return {
        "gpu": gpu, "no_gpu": answer.get("no_gpu"), "driver": told.get("driver_version"),
        "cuda_driver": answer.get("cuda_driver"), "cublas_lt": answer.get("cublas_lt"),
        "no_cublas_lt": answer.get("no_cublas_lt") if cublas else LIBRARY + " was not found",
        "cublas_lt_path": cublas, "driver_path": driver, "nvidia_smi": told,
        "link": link(answer.get("pci")), "host": host(), "sanitizer": find_sanitizer(),
        "nvcc": (output_of(["nvcc", "--version"]) or "").split("\n")[-1] or None,
        "library_folders": [f for f in (driver_folder, cublas_folder) if f]}
