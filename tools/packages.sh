# Sourced by tools/quickstart and tools/test: the Debian packages, and installing those that miss.

build_packages=(
  cmake ninja-build g++ pkg-config
  protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libgrpc++-dev
  libspdlog-dev libcli11-dev nlohmann-json3-dev libyaml-cpp-dev prometheus-cpp-dev
  libicu-dev libre2-dev libhwy-dev liburing-dev libxxhash-dev libssl-dev
)
test_packages=(
  catch2 libboost-context-dev python3 python3-numpy python3-grpcio python3-protobuf
  clang-14 clang-format-14 libclang-rt-14-dev libfuzzer-14-dev fio
)

# install_packages PACKAGE...: as root or through sudo; says what it installs.
install_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing with apt: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "error: neither root nor sudo; install by hand: apt-get install ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  local log
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "error: apt could not install the packages above (log: $log)" >&2
    return 1
  fi
  rm -f "$log"
}

# Puts nvcc on the PATH where the toolkit is installed in its usual place.
find_nvcc() {
  command -v nvcc >/dev/null || { [ -x /usr/local/cuda/bin/nvcc ] &&
    export PATH="$PATH:/usr/local/cuda/bin"; }
}

# cmake arguments that hold for every preset.
cmake_arguments() {
  command -v ccache >/dev/null && echo "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"
  return 0
}
