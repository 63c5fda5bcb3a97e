#include "tests/support/op_reference.h"

#include <algorithm>
#include <cmath>

namespace engram::reference {

Rows Rows::row_range(int64_t first, int64_t count) const {
  Rows out(count, cols);
  std::copy_n(values.begin() + first * cols, count * cols, out.values.begin());
  return out;
}

Rows Rows::col_range(int64_t first, int64_t count) const {
  Rows out(rows, count);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < count; ++c) out.at(r, c) = at(r, first + c);
  }
  return out;
}

double nmse(const Rows& actual, const Rows& expected) {
  if (actual.rows != expected.rows || actual.cols != expected.cols) return std::nan("");
  double error = 0.0;
  double power = 0.0;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const double difference = actual.values[i] - expected.values[i];
    error += difference * difference;
    power += expected.values[i] * expected.values[i];
  }
  return error == 0.0 ? 0.0 : error / power;
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

double silu(double x) {
  return x * sigmoid(x);
}

Rows add(const Rows& a, const Rows& b) {
  Rows sum = a;
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += b.values[i];
  return sum;
}

Rows linear(const Rows& x, const Rows& w, const Rows& bias) {
  Rows y(x.rows, w.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double sum = bias.values.empty() ? 0. : bias.at(0, n);
      for (int64_t k = 0; k < x.cols; ++k) sum += x.at(t, k) * w.at(n, k);
      y.at(t, n) = sum;
    }
  }
  return y;
}

Rows rms_norm(const Rows& x, const Rows& weight, double eps) {
  Rows y(x.rows, x.cols);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t g = 0; g < weight.rows; ++g) {
      double squares = 0.0;
      for (int64_t c = 0; c < weight.cols; ++c) {
        squares += x.at(r, g * weight.cols + c) * x.at(r, g * weight.cols + c);
      }
      const double rms = std::sqrt(squares / static_cast<double>(weight.cols) + eps);
      for (int64_t c = 0; c < weight.cols; ++c) {
        const int64_t at = g * weight.cols + c;
        y.at(r, at) = x.at(r, at) / rms * weight.at(g, c);
      }
    }
  }
  return y;
}

Rows silu_mul(const Rows& gate_up) {
  const int64_t width = gate_up.cols / 2;
  Rows y(gate_up.rows, width);
  for (int64_t r = 0; r < y.rows; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      y.at(r, c) = silu(gate_up.at(r, c)) * gate_up.at(r, width + c);
    }
  }
  return y;
}

Rows rotate(
    const Rows& x,
    const std::vector<int32_t>& positions,
    const std::vector<double>& frequencies,
    double scale) {
  const int64_t half = static_cast<int64_t>(frequencies.size());
  Rows y(x.rows, x.cols);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t head = 0; head < x.cols; head += 2 * half) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            positions[static_cast<size_t>(t)] * frequencies[static_cast<size_t>(i)];
        const double cosine = scale * std::cos(angle);
        const double sine = scale * std::sin(angle);
        const double a = x.at(t, head + i);
        const double b = x.at(t, head + half + i);
        y.at(t, head + i) = a * cosine - b * sine;
        y.at(t, head + half + i) = b * cosine + a * sine;
      }
    }
  }
  return y;
}

Rows attention(
    const Rows& q,
    const Rows& k,
    const Rows& v,
    int64_t first,
    int64_t kv_heads,
    int64_t head_dim,
    double scale) {
  const int64_t heads = q.cols / head_dim;
  Rows out(q.rows, q.cols);
  for (int64_t t = 0; t < q.rows; ++t) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t at = head / (heads / kv_heads) * head_dim;
      std::vector<double> weight;
      for (int64_t p = 0; p <= first + t; ++p) {
        double score = 0.0;
        for (int64_t c = 0; c < head_dim; ++c) {
          score += q.at(t, head * head_dim + c) * k.at(p, at + c);
        }
        weight.push_back(score * scale);
      }
      const double top = *std::max_element(weight.begin(), weight.end());
      double sum = 0.0;
      for (double& w : weight) sum += w = std::exp(w - top);
      for (int64_t c = 0; c < head_dim; ++c) {
        double value = 0.0;
        for (int64_t p = 0; p <= first + t; ++p) {
          value += weight[static_cast<size_t>(p)] / sum * v.at(p, at + c);
        }
        out.at(t, head * head_dim + c) = value;
      }
    }
  }
  return out;
}

Gated engram_gate(
    const Rows& key,
    const Rows& value,
    const Rows& h,
    const Rows& key_norm,
    const Rows& query_norm,
    double eps) {
  const int64_t streams = key_norm.rows;
  const int64_t width = key_norm.cols;
  const Rows k = rms_norm(key, key_norm, eps);
  const Rows q = rms_norm(h, query_norm, eps);
  Gated out{Rows(key.rows, streams), Rows(key.rows, key.cols)};
  for (int64_t t = 0; t < key.rows; ++t) {
    for (int64_t g = 0; g < streams; ++g) {
      double s = 0.0;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) s += k.at(t, c) * q.at(t, c);
      s /= std::sqrt(static_cast<double>(width));
      const double sign = s > 0.0 ? 1.0 : (s < 0.0 ? -1.0 : 0.0);
      const double gate = sigmoid(sign * std::sqrt(std::max(std::abs(s), 1e-6)));
      out.gates.at(t, g) = gate;
      for (int64_t c = 0; c < width; ++c) out.u.at(t, g * width + c) = gate * value.at(t, c);
    }
  }
  return out;
}

Rows short_conv(const Rows& u, const Rows& q, const Rows& conv, int64_t dilation) {
  Rows out(u.rows, u.cols);
  for (int64_t t = 0; t < u.rows; ++t) {
    for (int64_t c = 0; c < u.cols; ++c) {
      double y = 0.0;
      for (int64_t j = 0; j < conv.cols; ++j) {
        const int64_t from = t - (conv.cols - 1 - j) * dilation;
        if (from >= 0) y += conv.at(c, j) * q.at(from, c);
      }
      out.at(t, c) = u.at(t, c) + silu(y);
    }
  }
  return out;
}

}  // namespace engram::reference
