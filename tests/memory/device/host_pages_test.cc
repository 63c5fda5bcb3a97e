#include "memory/device/host_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>

#include "tests/support/fake_root.h"

namespace engram::memory {
namespace {

TEST_CASE("reserved pages are aligned and apart from their neighbours", "[host_pages]") {
  for (const int64_t alignment : {kHugePage, kGiantPage}) {
    for (const int64_t size : {kSmallPage, kHugePage, 3 * kHugePage + kSmallPage}) {
      CAPTURE(alignment, size);
      void* data = reserve_pages(size, alignment);
      REQUIRE(data != nullptr);
      CHECK(reinterpret_cast<int64_t>(data) % alignment == 0);
      REQUIRE(map_pages(data, size, 0, -1));
      CHECK(populate_pages(data, size, 3) == 0);
      uint8_t* bytes = static_cast<uint8_t*>(data);
      CHECK(std::all_of(bytes, bytes + size, [](uint8_t b) { return b == 0; }));
      // The guard pages are there and give nothing away.
      unsigned char resident = 1;
      CHECK(mincore(bytes - kSmallPage, kSmallPage, &resident) == 0);
      CHECK(resident == 0);
      CHECK(mincore(bytes + size, kSmallPage, &resident) == 0);
      CHECK(resident == 0);
      release_pages(data, size);
      CHECK(mincore(bytes, kSmallPage, &resident) != 0);
    }
  }
}

TEST_CASE("a shared mapping holds what was written through another", "[host_pages]") {
  const int descriptor = memfd_create("test", MFD_CLOEXEC);
  REQUIRE(descriptor >= 0);
  const int64_t size = 3 * kHugePage;
  REQUIRE(ftruncate(descriptor, size) == 0);
  void* one = reserve_pages(size, kHugePage);
  void* two = reserve_pages(size, kHugePage);
  REQUIRE(map_pages(one, size, 0, descriptor));
  REQUIRE(map_pages(two, size, 0, descriptor));
  for (int64_t i = 0; i < size; i += 1000) static_cast<uint8_t*>(one)[i] = uint8_t(i % 251);
  // Collapsing pages that are in use changes none of their bytes.
  collapse_pages(one, size, 2);
  bool equal = true;
  for (int64_t i = 0; i < size; ++i) {
    const uint8_t expected = i % 1000 == 0 ? uint8_t(i % 251) : uint8_t{0};
    equal = equal && static_cast<uint8_t*>(two)[i] == expected;
  }
  CHECK(equal);
  std::printf("shared mapping: %.0f %% huge after a collapse\n", 100. * huge_page_share(one, size));
  release_pages(one, size);
  release_pages(two, size);
  close(descriptor);
}

TEST_CASE("files can be read into pages that are there, and not into others", "[host_pages]") {
  constexpr int64_t kSize = 4 * kHugePage;
  char* data = static_cast<char*>(reserve_pages(kSize, kHugePage));
  REQUIRE(data != nullptr);
  CHECK_FALSE(takes_direct_reads(data));
  REQUIRE(map_pages(data, kSize, 0, -1));
  std::memset(data, 0x5a, kSize);
  CHECK(takes_direct_reads(data));
  zero_pages(data, kSize, 3);
  CHECK(std::all_of(data, data + kSize, [](char c) { return c == 0; }));
  release_pages(data, kSize);
}

TEST_CASE("explicit huge pages are mapped whole or not at all", "[host_pages]") {
  const HugePool pool = read_huge_pool("", kHugePage, -1);
  const int64_t wanted = (pool.available + 8) * kHugePage;
  void* data = reserve_pages(wanted, kHugePage);
  REQUIRE(data != nullptr);
  CHECK_FALSE(map_pages(data, wanted, kHugePage, -1));
  // The address space is still ours, so small pages can take its place.
  REQUIRE(map_pages(data, kSmallPage, 0, -1));
  static_cast<uint8_t*>(data)[0] = 1;
  release_pages(data, wanted);
  if (pool.available < 2 || !can_populate()) {
    std::printf("SKIPPED: no pool of 2 MiB pages, or a kernel before 5.14\n");
    return;
  }
  data = reserve_pages(2 * kHugePage, kHugePage);
  REQUIRE(map_pages(data, 2 * kHugePage, kHugePage, -1));
  CHECK(populate_pages(data, 2 * kHugePage, 2) == 0);
  CHECK(huge_page_share(data, 2 * kHugePage) == 1.);
  release_pages(data, 2 * kHugePage);
}

TEST_CASE("pools are read for the machine and for a node", "[host_pages]") {
  const FakeRoot root;
  const HugePool none = read_huge_pool(root.path(), kHugePage, -1);
  CHECK(none.total == 0);
  CHECK(none.available == 0);
  const std::string all = "sys/kernel/mm/hugepages/hugepages-2048kB/";
  root.write(all + "nr_hugepages", "100\n");
  root.write(all + "free_hugepages", "60\n");
  root.write(all + "resv_hugepages", "10\n");
  const std::string node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/";
  root.write(node + "nr_hugepages", "40\n");
  root.write(node + "free_hugepages", "5\n");
  CHECK(read_huge_pool(root.path(), kHugePage, -1).total == 100);
  CHECK(read_huge_pool(root.path(), kHugePage, -1).available == 50);
  CHECK(read_huge_pool(root.path(), kHugePage, 1).total == 40);
  CHECK(read_huge_pool(root.path(), kHugePage, 1).available == 0);
  CHECK(read_huge_pool(root.path(), kGiantPage, -1).total == 0);
}

TEST_CASE("the mode of shared huge pages is read, per size where there is one", "[host_pages]") {
  const FakeRoot root;
  CHECK_FALSE(shared_huge_pages_enabled(root.path()));
  const std::string folder = "sys/kernel/mm/transparent_hugepage/";
  root.write(folder + "shmem_enabled", "always within_size advise [never] deny force\n");
  CHECK_FALSE(shared_huge_pages_enabled(root.path()));
  root.write(folder + "shmem_enabled", "always within_size [advise] never deny force\n");
  CHECK(shared_huge_pages_enabled(root.path()));
  root.write(folder + "hugepages-2048kB/shmem_enabled", "always [inherit] within_size never\n");
  CHECK(shared_huge_pages_enabled(root.path()));
  root.write(folder + "hugepages-2048kB/shmem_enabled", "always inherit within_size [never]\n");
  CHECK_FALSE(shared_huge_pages_enabled(root.path()));
}

}  // namespace
}  // namespace engram::memory
