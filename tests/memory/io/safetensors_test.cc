// What a well-formed file gives, and that every malformed one is refused with words that help.
#include "memory/io/safetensors.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>

#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

using tests::TempDirectory;

std::string safetensors(uint64_t length, const std::string& header, const std::string& data) {
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  return text + header + data;
}

std::string safetensors(const std::string& header, const std::string& data) {
  return safetensors(header.size(), header, data);
}

// Opens a directory whose model.safetensors holds those bytes.
Status open_bytes(const std::string& bytes) {
  TempDirectory directory;
  directory.write("model.safetensors", bytes);
  return TensorFiles::open(directory.path()).status();
}

constexpr const char* kGood = R"({"__metadata__":{"format":"pt"},)"
                              R"("b":{"dtype":"I32","shape":[2],"data_offsets":[6,14]},)"
                              R"("a":{"dtype":"BF16","shape":[3,1],"data_offsets":[0,6]},)"
                              R"("none":{"dtype":"F32","shape":[0,7],"data_offsets":[6,6]},)"
                              R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[14,15]}}  )";

TEST_CASE("tensors of one file are found and read", "[safetensors]") {
  TempDirectory directory;
  directory.write("model.safetensors", safetensors(kGood, "aAbBcC01234567z"));
  Result<TensorFiles> opened = TensorFiles::open(directory.path());
  REQUIRE(opened.ok());
  const TensorFiles& files = opened.value();
  REQUIRE(files.tensors().size() == 4);
  CHECK(files.find("c") == nullptr);
  const TensorInfo* a = files.find("a");
  REQUIRE(a != nullptr);
  CHECK(a->dtype == DType::kBf16);
  CHECK(a->shape == std::vector<int64_t>{3, 1});
  CHECK(a->bytes == 6);
  CHECK(files.path(*a) == directory.file("model.safetensors"));
  std::string text(6, '-');
  REQUIRE(files.read(*a, 0, 6, text.data()).ok());
  CHECK(text == "aAbBcC");
  REQUIRE(files.read(*files.find("b"), 3, 5, text.data()).ok());
  CHECK(text == "34567C");
  REQUIRE(files.read(*files.find("scalar"), 0, 1, text.data()).ok());
  CHECK(text[0] == 'z');
  CHECK(files.find("none")->bytes == 0);
}

TEST_CASE("every dtype of published checkpoints has its size", "[safetensors]") {
  struct Case {
    std::string dtype;
    int64_t bytes;
    std::string name;
  };
  const Case cases[] = {
      {"F64", 8, "f64"},         {"F32", 4, "f32"},         {"F16", 2, "f16"},
      {"BF16", 2, "bf16"},       {"F8_E4M3", 1, "f8_e4m3"}, {"F8_E5M2", 1, "f8_e5m2"},
      {"F8_E8M0", 1, "f8_e8m0"}, {"I64", 8, "i64"},         {"I32", 4, "i32"},
      {"I16", 2, "i16"},         {"I8", 1, "i8"},           {"U64", 8, "u64"},
      {"U32", 4, "u32"},         {"U16", 2, "u16"},         {"U8", 1, "u8"},
      {"BOOL", 1, "bool"},
  };
  TempDirectory directory;
  for (const Case& c : cases) {
    CAPTURE(c.dtype);
    const std::string end = std::to_string(3 * c.bytes);
    directory.write(
        "other.safetensors",
        safetensors(
            R"({"x":{"dtype":")" + c.dtype + R"(","shape":[3],"data_offsets":[0,)" + end + "]}}",
            std::string(static_cast<size_t>(3 * c.bytes), '.')));
    const auto opened = TensorFiles::open_file(directory.path(), "other.safetensors");
    REQUIRE(opened.ok());
    CHECK(opened.value().find("x")->bytes == 3 * c.bytes);
    CHECK(dtype_name(opened.value().find("x")->dtype) == c.name);
  }
  const Status none = TensorFiles::open_file(directory.path(), "none.safetensors").status();
  CHECK(none.code() == Code::kNotFound);
}

TEST_CASE("a file cut short after opening is data loss", "[safetensors]") {
  TempDirectory directory;
  directory.write("model.safetensors", safetensors(kGood, "aAbBcC01234567z"));
  Result<TensorFiles> opened = TensorFiles::open(directory.path());
  REQUIRE(opened.ok());
  std::filesystem::resize_file(directory.file("model.safetensors"), 8 + std::strlen(kGood) + 10);
  std::string text(8, '-');
  const Status status = opened.value().read(*opened.value().find("b"), 0, 8, text.data());
  CHECK(status.code() == Code::kDataLoss);
  CHECK_THAT(status.message(), Catch::Contains("model.safetensors: ended at byte"));
}

std::string tensor(const std::string& fields) {
  return R"({"x":{)" + fields + "}}";
}

TEST_CASE("malformed files are refused", "[safetensors]") {
  struct Attack {
    const char* name;
    std::string bytes;
    const char* words;  // part of the message
  };
  const std::string four = R"("dtype":"F32","shape":[1],)";
  const std::string y = R"("y":{"dtype":"U8","shape":[2],"data_offsets":)";
  const Attack attacks[] = {
      {"empty file", "", "expected a length"},
      {"seven bytes", "1234567", "expected a length"},
      {"header larger than the file", safetensors(1000, "{}", ""), "header of 1000 bytes"},
      {"header length 2^64-1", safetensors(~uint64_t{0}, "{}", ""), "in a file of 10"},
      {"header length 2^63", safetensors(uint64_t{1} << 63, "{}", ""), "in a file of 10"},
      {"no header", safetensors(0, "", "{}"), "does not begin with '{'"},
      {"header is a list", safetensors("[]", ""), "does not begin with '{'"},
      {"header begins with a space", safetensors(" {}", ""), "does not begin with '{'"},
      {"header cut off", safetensors(R"({"x":{"dty)", ""), "not valid JSON at byte"},
      {"text behind the header", safetensors("{} {}", ""), "not valid JSON at byte"},
      {"zero bytes behind the header", safetensors("{}" + std::string(2, '\0'), ""), "not valid"},
      {"broken UTF-8 in a name", safetensors("{\"\xc3\x28\":{}}", ""), "not valid JSON"},
      {"overlong UTF-8", safetensors("{\"\xc0\x80\":{}}", ""), "not valid JSON"},
      {"lone surrogate", safetensors(R"({"\ud800":{}})", ""), "not valid JSON"},
      {"a million brackets", safetensors(R"({"x":)" + std::string(1000000, '['), ""),
       "deeper than 64 levels"},
      {"tensor twice",
       safetensors(
           R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
           R"("x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
           "ab"),
       "duplicate key \"x\""},
      {"field twice",
       safetensors(tensor(R"("dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1])"), "a"),
       "duplicate key \"dtype\""},
      {"tensor is a number", safetensors(R"({"x":1})", ""), "x: is 1, expected an object"},
      {"no dtype", safetensors(tensor(R"("shape":[1],"data_offsets":[0,4])"), "1234"), "no dtype"},
      {"no shape", safetensors(tensor(R"("dtype":"F32","data_offsets":[0,4])"), "1234"),
       "no shape"},
      {"no offsets", safetensors(tensor(R"("dtype":"F32","shape":[1])"), "1234"),
       "no data_offsets"},
      {"another field", safetensors(tensor(four + R"("data_offsets":[0,4],"extra":1)"), "1234"),
       "has fields beside"},
      {"unknown dtype",
       safetensors(tensor(R"("dtype":"Q4_K","shape":[1],"data_offsets":[0,4])"), "1234"),
       "unknown dtype \"Q4_K\""},
      {"dtype is a number",
       safetensors(tensor(R"("dtype":7,"shape":[1],"data_offsets":[0,4])"), "1234"), "dtype is 7"},
      {"negative size",
       safetensors(tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), "1234"),
       "shape holds -1"},
      {"size is a float",
       safetensors(tensor(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])"), "1234"),
       "shape holds 1.0"},
      {"size beyond 64 bits",
       safetensors(
           tensor(R"("dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4])"), "1234"),
       "shape holds"},
      {"product of sizes overflows to 1",
       safetensors(
           tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4])"), "1234"),
       "overflows"},
      {"product overflows beside a zero",
       safetensors(
           tensor(R"("dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"), ""),
       "overflows"},
      {"shape is a number",
       safetensors(tensor(R"("dtype":"F32","shape":1,"data_offsets":[0,4])"), "1234"),
       "shape is 1"},
      {"rank 9",
       safetensors(tensor(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"), "1"),
       "at most 8 sizes"},
      {"offsets reversed", safetensors(tensor(four + R"("data_offsets":[4,0])"), "1234"),
       "begin <= end"},
      {"negative offset", safetensors(tensor(four + R"("data_offsets":[-4,0])"), "1234"),
       "begin <= end"},
      {"offset is a float", safetensors(tensor(four + R"("data_offsets":[0,4e0])"), "1234"),
       "begin <= end"},
      {"offset near 2^64",
       safetensors(
           tensor(four + R"("data_offsets":[18446744073709551612,18446744073709551615])"), "1234"),
       "begin <= end"},
      {"three offsets", safetensors(tensor(four + R"("data_offsets":[0,4,8])"), "1234"),
       "begin <= end"},
      {"size is not dtype times shape",
       safetensors(tensor(four + R"("data_offsets":[0,3])"), "123"),
       "hold 3 bytes, expected 4 for f32 [1]"},
      {"beyond the end", safetensors(tensor(four + R"("data_offsets":[0,4])"), "123"),
       "ends at byte 4 of the data, the file has 3"},
      {"overlapping",
       safetensors(R"({"x":{)" + four + R"("data_offsets":[0,4]},)" + y + "[3,5]}}", "12345"),
       "y: begins at byte 3 and overlaps x"},
      {"a hole",
       safetensors(R"({"x":{)" + four + R"("data_offsets":[0,4]},)" + y + "[5,7]}}", "1234567"),
       "y: begins at byte 5, leaving a hole after byte 4"},
      {"a hole at the front", safetensors(tensor(four + R"("data_offsets":[1,5])"), "12345"),
       "leaving a hole after byte 0"},
      {"trailing bytes", safetensors(tensor(four + R"("data_offsets":[0,4])"), "123456"),
       "2 bytes after the last tensor"},
      {"data without tensors", safetensors("{}", "1"), "1 bytes after the last tensor"},
      {"metadata is a list", safetensors(R"({"__metadata__":[]})", ""), "__metadata__ is []"},
      {"metadata holds a number", safetensors(R"({"__metadata__":{"epoch":3}})", ""),
       "__metadata__.epoch is 3, expected a string"},
  };
  for (const Attack& attack : attacks) {
    CAPTURE(attack.name);
    const Status status = open_bytes(attack.bytes);
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(status.message(), Catch::Contains("model.safetensors"));
    CHECK_THAT(status.message(), Catch::Contains(attack.words));
  }
}

TEST_CASE("a header above the limit is refused before it is read", "[safetensors]") {
  TempDirectory directory;
  directory.write("model.safetensors", safetensors(100'000'001, "{", ""));
  std::filesystem::resize_file(directory.file("model.safetensors"), 8 + 100'000'001);  // sparse
  const Status status = TensorFiles::open(directory.path()).status();
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("expected at most 100000000"));
}

const char* const kOne = R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
const char* const kTwo = R"({"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";

TEST_CASE("tensors of shards are found and read", "[safetensors]") {
  TempDirectory directory;
  directory.write("one.safetensors", safetensors(kOne, "1"));
  directory.write("two.safetensors", safetensors(kTwo, "23"));
  directory.write(
      "model.safetensors.index.json",
      R"({"metadata":{"total_size":3},)"
      R"("weight_map":{"y":"two.safetensors","x":"one.safetensors"}})");
  Result<TensorFiles> opened = TensorFiles::open(directory.path());
  REQUIRE(opened.ok());
  std::string text(2, '-');
  REQUIRE(opened.value().read(*opened.value().find("y"), 0, 2, text.data()).ok());
  CHECK(text == "23");
  CHECK(opened.value().path(*opened.value().find("x")) == directory.file("one.safetensors"));
}

TEST_CASE("a shard that is a link is followed", "[safetensors]") {
  TempDirectory blobs;
  TempDirectory directory;
  blobs.write("0123abcd", safetensors(kOne, "1"));
  REQUIRE(
      ::symlink(blobs.file("0123abcd").c_str(), directory.file("model.safetensors").c_str()) == 0);
  CHECK(TensorFiles::open(directory.path()).ok());
}

TEST_CASE("malformed indexes are refused", "[safetensors]") {
  struct Attack {
    const char* name;
    const char* index;
    Code code;
    const char* words;
  };
  const Attack attacks[] = {
      {"no weight_map", R"({"metadata":{}})", Code::kInvalidArgument, "no object weight_map"},
      {"a list", "[]", Code::kInvalidArgument, "no object weight_map"},
      {"empty map", R"({"weight_map":{}})", Code::kInvalidArgument, "weight_map is empty"},
      {"shard is a number", R"({"weight_map":{"x":1}})", Code::kInvalidArgument,
       "weight_map.x is 1, expected a file name"},
      {"parent directory", R"({"weight_map":{"x":"../one.safetensors"}})", Code::kInvalidArgument,
       "weight_map.x is \"../one.safetensors\", expected a file name of the same directory"},
      {"absolute path", R"({"weight_map":{"x":"/etc/passwd"}})", Code::kInvalidArgument,
       "expected a file name of the same directory"},
      {"the directory itself", R"({"weight_map":{"x":"."}})", Code::kInvalidArgument,
       "expected a file name of the same directory"},
      {"NUL in a name", R"({"weight_map":{"x":"one.safetensors\u0000.x"}})", Code::kInvalidArgument,
       "expected a file name of the same directory"},
      {"missing shard", R"({"weight_map":{"x":"three.safetensors"}})", Code::kNotFound,
       "three.safetensors: cannot be opened"},
      {"shard is a pipe", R"({"weight_map":{"x":"pipe"}})", Code::kInvalidArgument,
       "pipe: is not a regular file"},
      {"tensor in another shard", R"({"weight_map":{"x":"one.safetensors","y":"one.safetensors"}})",
       Code::kInvalidArgument, "y: is not in one.safetensors"},
      {"tensor not in the index", R"({"weight_map":{"x":"one.safetensors","z":"two.safetensors"}})",
       Code::kInvalidArgument, "z: is not in two.safetensors"},
      {"surplus tensor in a shard",
       R"({"weight_map":{"x":"one.safetensors","y":"both.safetensors"}})", Code::kInvalidArgument,
       "w: is not in the index"},
      {"tensor in two shards", R"({"weight_map":{"x":"one.safetensors","y":"again.safetensors"}})",
       Code::kInvalidArgument, "x: is also in"},
      {"tensor twice in the map", R"({"weight_map":{"x":"one.safetensors","x":"two.safetensors"}})",
       Code::kInvalidArgument, "duplicate key \"x\""},
  };
  TempDirectory directory;
  directory.write("one.safetensors", safetensors(kOne, "1"));
  directory.write("two.safetensors", safetensors(kTwo, "23"));
  directory.write(
      "both.safetensors", safetensors(
                              R"({"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                              R"("w":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                              "231"));
  directory.write(
      "again.safetensors", safetensors(
                               R"({"y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                               R"("x":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                               "231"));
  REQUIRE(::mkfifo(directory.file("pipe").c_str(), 0600) == 0);
  for (const Attack& attack : attacks) {
    CAPTURE(attack.name);
    directory.write("model.safetensors.index.json", attack.index);
    const Status status = TensorFiles::open(directory.path()).status();
    CHECK(status.code() == attack.code);
    CHECK_THAT(status.message(), Catch::Contains(attack.words));
  }
}

TEST_CASE("a directory without tensors is not found", "[safetensors]") {
  TempDirectory directory;
  const Status status = TensorFiles::open(directory.path()).status();
  CHECK(status.code() == Code::kNotFound);
  CHECK_THAT(status.message(), Catch::Contains("holds neither model.safetensors nor"));
}

}  // namespace
}  // namespace engram::memory
