// Picks the CPU level. Each level's kernels are objects of their own (CMakeLists.txt), compiled for that level.
#include <stdexcept>

#include "kernels/runtime/host_device.h"

namespace faultline::kernels {

#define FAULTLINE_DECLARE_LEVEL(level)      \
  namespace level {                         \
  std::span<const Entry> table_gemm();      \
  std::span<const Entry> table_attention(); \
  std::span<const Entry> table_moe();       \
  std::span<const Entry> table_rows();      \
  }
#define FAULTLINE_LEVEL_TABLES(level) \
  { level::table_gemm(), level::table_attention(), level::table_moe(), level::table_rows() }

#if defined(__x86_64__)
FAULTLINE_DECLARE_LEVEL(cpu_v2)
FAULTLINE_DECLARE_LEVEL(cpu_v3)
FAULTLINE_DECLARE_LEVEL(cpu_v4)
#else
FAULTLINE_DECLARE_LEVEL(cpu_portable)
#endif

const char* name(CpuLevel level) {
  switch (level) {
    case CpuLevel::portable: return "portable";
    case CpuLevel::v2: return "v2";
    case CpuLevel::v3: return "v3";
    case CpuLevel::v4: return "v4";
  }
  return "?";
}

std::vector<CpuLevel> cpu_levels() {
#if defined(__x86_64__)
  std::vector<CpuLevel> levels{CpuLevel::v2};
  // By feature, because clang 14 does not know the level names here. v3: Haswell; v4: Skylake server.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    levels.push_back(CpuLevel::v3);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      levels.push_back(CpuLevel::v4);
    }
  }
  return levels;
#else
  return {CpuLevel::portable};
#endif
}

std::unique_ptr<Device> make_cpu_device() { return make_cpu_device(cpu_levels().back()); }

std::unique_ptr<Device> make_cpu_device(CpuLevel level) {
  bool known = false;
  for (const CpuLevel l : cpu_levels()) known = known || l == level;
  if (!known) throw std::invalid_argument(std::string("this CPU does not run level ") + name(level));
#if defined(__x86_64__)
  if (level == CpuLevel::v2)
    return std::make_unique<HostDevice>("cpu x86-64-v2",
                                        std::vector<std::span<const Entry>> FAULTLINE_LEVEL_TABLES(cpu_v2));
  if (level == CpuLevel::v3)
    return std::make_unique<HostDevice>("cpu x86-64-v3",
                                        std::vector<std::span<const Entry>> FAULTLINE_LEVEL_TABLES(cpu_v3));
  return std::make_unique<HostDevice>("cpu x86-64-v4",
                                      std::vector<std::span<const Entry>> FAULTLINE_LEVEL_TABLES(cpu_v4));
#else
  return std::make_unique<HostDevice>("cpu portable",
                                      std::vector<std::span<const Entry>> FAULTLINE_LEVEL_TABLES(cpu_portable));
#endif
}

}  // namespace faultline::kernels
