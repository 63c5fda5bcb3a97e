#include <array>
#include <utility>

#include "engine/model/byte_alphabet.h"
#include "engine/model/tokenizer.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

constexpr size_t kBytes = 256;

class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(int64_t size) : size_(size) {
    for (size_t i = 0; i < kBytes; ++i) {
      bytes_[i] = std::string(1, static_cast<char>(i));
      texts_[i] = vocabulary_string_of_bytes(bytes_[i]);
    }
  }

  // Bytes as they are, so that any text comes back; an id that does not exist is left out.
  std::vector<int32_t> encode(std::string_view text, bool /*add_special*/) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size());
    for (const char byte : text) {
      const int32_t id = static_cast<uint8_t>(byte);
      if (id < size_) {
        ids.push_back(id);
      }
    }
    return ids;
  }

  std::string decode(const std::vector<int32_t>& ids, bool /*skip_special*/) const override {
    std::string bytes;
    for (const int32_t id : ids) {
      bytes += token_bytes(id);
    }
    return replace_invalid_utf8(bytes);
  }

  std::string_view token_bytes(int32_t id) const override {
    return is_byte(id) ? std::string_view(bytes_[static_cast<size_t>(id)]) : std::string_view();
  }
  std::string_view token_string(int32_t id) const override {
    return is_byte(id) ? std::string_view(texts_[static_cast<size_t>(id)]) : std::string_view();
  }
  bool is_special(int32_t /*id*/) const override { return false; }
  bool is_added(int32_t /*id*/) const override { return false; }
  int64_t size() const override { return size_; }

 private:
  bool is_byte(int32_t id) const {
    return id >= 0 && id < size_ && id < static_cast<int32_t>(kBytes);
  }

  int64_t size_;
  std::array<std::string, kBytes> bytes_;
  std::array<std::string, kBytes> texts_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer(int64_t size) {
  return std::make_unique<ByteTokenizer>(size);
}

}  // namespace engram::engine
