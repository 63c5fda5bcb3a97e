#!/usr/bin/env bash
# The cpack archive works where it is unpacked, with nothing but the C library of the machine:
# package_check.sh BUILD_DIRECTORY
set -euo pipefail
build=$1
directory=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$directory"
}
trap cleanup EXIT

cpack --config "$build/CPackConfig.cmake" -B "$directory/archive" >"$directory/cpack.log" 2>&1 ||
  { cat "$directory/cpack.log" >&2; exit 1; }
archive=("$directory"/archive/engramd-*.tar.gz)
echo "archive: $(basename "${archive[0]}"), $(du -m "${archive[0]}" | cut -f1) MiB"
tar -xzf "${archive[0]}" -C "$directory"
root=("$directory"/engramd-*/)

# Every library but those of the C library comes out of the archive.
for program in engramd engram; do
  outside=$(env -i ldd "${root[0]}bin/$program" | grep '=> /' | grep -v "=> $directory" |
    grep -vE '^\s*(libc|libm|libdl|librt|libpthread|libresolv)\.so' || true)
  [ -z "$outside" ] || { echo "error: $program needs from the machine: $outside" >&2; exit 1; }
done

port=$((20000 + RANDOM % 20000))
env -i "${root[0]}bin/engramd" --model "${root[0]}share/engramd/configs/demo" --port "$port" \
  --metrics-port $((port + 1)) >"$directory/server.log" 2>&1 &
server=$!
for ((tries = 0; ; ++tries)); do
  env -i "${root[0]}bin/engramd" --health-check "127.0.0.1:$port" >/dev/null 2>&1 && break
  if ! kill -0 "$server" 2>/dev/null || [ "$tries" -ge 300 ]; then
    cat "$directory/server.log" >&2
    echo "error: engramd of the archive did not become ready" >&2
    exit 1
  fi
  sleep 0.2
done
text=$(env -i "${root[0]}bin/engram" complete --server "127.0.0.1:$port" --max-tokens 8 \
  --temperature 0 "The GNU General Public ")
[ -n "$text" ] || { echo "error: the archive's client printed nothing" >&2; exit 1; }
kill -TERM "$server"
wait "$server"
server=
echo "package: 1 passed, 0 failed"
