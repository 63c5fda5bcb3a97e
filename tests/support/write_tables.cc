// Table files for the end-to-end tests: write_tables MODEL DIRECTORY split|interleaved ROTATE. With
// ROTATE above 0 the rows have each other's contents: another version of the tables.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tests/support/model_tables.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: write_tables MODEL DIRECTORY split|interleaved ROTATE\n");
    return 2;
  }
  engram::tests::ModelTables options;
  if (std::strcmp(argv[3], "interleaved") == 0) {
    options.layout = engram::memory::RowLayout::kInterleaved;
  }
  options.rotate = std::atoll(argv[4]);
  std::filesystem::create_directories(argv[2]);
  engram::tests::write_model_tables(argv[1], argv[2], options);
  return 0;
}
