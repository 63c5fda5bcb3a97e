// The ops in float64, as plain loops: what the op tests of every device compare with.
//
// Nothing here is fast or clever. Shapes and formulas are those of engine/ops/ops.h; sequences are
// dense, without pages. Test threads only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace engram::reference {

// [rows, cols], row-major.
struct Rows {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;

  Rows() = default;
  Rows(int64_t rows_in, int64_t cols_in)
      : rows(rows_in), cols(cols_in), values(static_cast<size_t>(rows_in * cols_in)) {}
  double& at(int64_t r, int64_t c) { return values[static_cast<size_t>(r * cols + c)]; }
  double at(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * cols + c)]; }
  Rows row_range(int64_t first, int64_t count) const;
  Rows col_range(int64_t first, int64_t count) const;
};

// Sum of squared differences over the sum of squares of `expected`; 0 if both are empty. NaN
// anywhere gives NaN, which is no number below any threshold.
double nmse(const Rows& actual, const Rows& expected);

double sigmoid(double x);
double silu(double x);
Rows add(const Rows& a, const Rows& b);

// x [T, K], w [N, K], bias [1, N] or empty.
Rows linear(const Rows& x, const Rows& w, const Rows& bias);

// weight [G, cols / G]: each of the G parts of a row is normalised alone.
Rows rms_norm(const Rows& x, const Rows& weight, double eps);
Rows silu_mul(const Rows& gate_up);

// x [T, heads * width]; the halves of each head rotated by positions[t] * frequencies[i], times
// scale.
Rows rotate(
    const Rows& x,
    const std::vector<int32_t>& positions,
    const std::vector<double>& frequencies,
    double scale);

// One sequence: q [T, Nq * Dh] at the positions first .. first + T - 1; k, v [positions, Nk * Dh].
Rows attention(
    const Rows& q,
    const Rows& k,
    const Rows& v,
    int64_t first,
    int64_t kv_heads,
    int64_t head_dim,
    double scale);

struct Gated {
  Rows gates;  // [T, G]
  Rows u;      // [T, G * D]
};
Gated engram_gate(
    const Rows& key,
    const Rows& value,
    const Rows& h,
    const Rows& key_norm,
    const Rows& query_norm,
    double eps);

// One whole sequence from position 0: u + silu(conv(q)) with the normalised q [T, G * D] given.
Rows short_conv(const Rows& u, const Rows& q, const Rows& conv, int64_t dilation);

}  // namespace engram::reference
