// How the CPU ops divide their rows among threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "memory/device/device_cpu.h"

namespace engram::engine::cpu {

// Least work of a part, in elements touched: some microseconds, several times what handing a part
// to another thread costs.
constexpr int64_t kPartElements = 16384;

// Calls f(begin, end) for ranges that together are [0, rows), each of which touches about
// row_elements elements per row. Little work runs inline.
template <typename F>
void split_rows(memory::CpuWorkers& workers, int64_t rows, int64_t row_elements, const F& f) {
  const int64_t wanted = rows * row_elements / kPartElements;
  const int64_t most = std::min<int64_t>(rows, 4 * workers.threads());
  const int64_t parts = workers.threads() == 1 ? 1 : std::clamp<int64_t>(wanted, 1, most);
  if (parts == 1) {
    f(int64_t{0}, rows);
    return;
  }
  workers.run(parts, [&](int64_t i) { f(rows * i / parts, rows * (i + 1) / parts); });
}

}  // namespace engram::engine::cpu
