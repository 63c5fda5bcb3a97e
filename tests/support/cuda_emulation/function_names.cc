// The names of a program's functions, kernels among them, by its own symbol table.
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace cuda_emulation {
namespace {

// Stays mapped. Null: it cannot be read.
const char* map_program() {
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (file < 0 || fstat(file, &status) != 0) return nullptr;
  void* data = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  return data == MAP_FAILED ? nullptr : static_cast<const char*>(data);
}

// How far the program lies from where it was linked to.
uintptr_t load_bias() {
  uintptr_t bias = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        *static_cast<uintptr_t*>(data) = info->dlpi_addr;
        return 1;  // the first one is the program
      },
      &bias);
  return bias;
}

std::map<uintptr_t, const char*> read_names() {
  std::map<uintptr_t, const char*> names;
  const char* program = map_program();
  if (program == nullptr) return names;
  const uintptr_t bias = load_bias();
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(program);
  const auto* sections = reinterpret_cast<const ElfW(Shdr)*>(program + header->e_shoff);
  for (size_t i = 0; i < header->e_shnum; ++i) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const auto* symbols = reinterpret_cast<const ElfW(Sym)*>(program + sections[i].sh_offset);
    const char* texts = program + sections[sections[i].sh_link].sh_offset;
    for (size_t s = 0; s < sections[i].sh_size / sizeof(ElfW(Sym)); ++s) {
      if (ELF64_ST_TYPE(symbols[s].st_info) != STT_FUNC || symbols[s].st_value == 0) continue;
      names.emplace(bias + symbols[s].st_value, texts + symbols[s].st_name);
    }
  }
  return names;
}

}  // namespace

const char* function_name(const void* function) {
  static const std::map<uintptr_t, const char*> names = read_names();
  const auto found = names.find(reinterpret_cast<uintptr_t>(function));
  return found == names.end() ? nullptr : found->second;
}

}  // namespace cuda_emulation
