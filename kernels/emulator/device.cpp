#include "kernels/emulator/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace faultline::kernels {
namespace emulated {
std::span<const Entry> table_gemm();
std::span<const Entry> table_attention();
std::span<const Entry> table_moe();
std::span<const Entry> table_rows();
}  // namespace emulated

EmulatedDevice::EmulatedDevice(std::uint64_t seed)
    : HostDevice("emulated gfx942",
                 {emulated::table_gemm(), emulated::table_attention(), emulated::table_moe(), emulated::table_rows()}),
      seed_(seed << 20) {}

EmulatedDevice::~EmulatedDevice() {
  for (const auto& [memory, mapping] : mappings_) munmap(mapping.base, mapping.bytes);
}

Outcome<void*> EmulatedDevice::allocate(std::size_t bytes) {
  if (capturing()) return Failure{"allocate", 0, "not allowed while a graph is captured"};
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  // The end is what kernels overrun: it stands at the guard page, to within the 16 bytes that vector loads need
  // aligned.
  const std::size_t rounded = (bytes + 15) / 16 * 16;
  const std::size_t body = (rounded + page - 1) / page * page;
  void* base = mmap(nullptr, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return Failure{"mmap", 0, std::to_string(bytes) + " bytes are not to be had"};
  char* first = static_cast<char*>(base) + page;
  if (mprotect(first, body == 0 ? page : body, PROT_READ | PROT_WRITE) != 0) return Failure{"mprotect", 0, "refused"};
  void* memory = first + (body - rounded);
  std::memset(first, 0xff, body);  // NaN, so that reading what nobody wrote shows
  mappings_[memory] = {base, body + 2 * page};
  return memory;
}

void EmulatedDevice::release(void* memory) {
  const auto found = mappings_.find(memory);
  if (found == mappings_.end()) return;
  munmap(found->second.base, found->second.bytes);
  mappings_.erase(found);
}

}  // namespace faultline::kernels
