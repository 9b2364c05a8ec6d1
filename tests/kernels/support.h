// Shared by the kernel tests: devices to run on, seeded values, comparisons.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/emulator/device.h"
#include "kernels/reference/reference.h"
#include "kernels/runtime/device.h"
#include "kernels/tile/fp8.h"

namespace faultline::kernels::test {

/// Of the whole run: FAULTLINE_TEST_SEED, else fixed. Printed by every random test through SeedTrace.
inline std::uint64_t run_seed() {
  const char* text = std::getenv("FAULTLINE_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 20250101ULL;
}
/// Random rounds of a test: few by default, many with FAULTLINE_SLOW_TESTS=1.
inline int rounds(int few, int many) {
  const char* text = std::getenv("FAULTLINE_SLOW_TESTS");
  return text != nullptr && std::string(text) == "1" ? many : few;
}

class Random {
 public:
  explicit Random(std::uint64_t salt) : engine_(run_seed() * 1000003ULL + salt) {}
  int below(int n) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(n)); }
  int between(int low, int high) { return low + below(high - low + 1); }
  float normal(float deviation = 1.0F) { return std::normal_distribution<float>(0.0F, deviation)(engine_); }
  float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }
  std::uint64_t bits() { return engine_(); }
  bool chance(double p) { return std::uniform_real_distribution<double>(0, 1)(engine_) < p; }

 private:
  std::mt19937_64 engine_;
};

/// The GPU when FAULTLINE_GPU=1 asks for it; null otherwise.
inline std::unique_ptr<Device> wanted_gpu() {
  const char* text = std::getenv("FAULTLINE_GPU");
  if (text == nullptr || std::string(text) != "1") return nullptr;
  return open_device("gpu");
}
/// The emulator and every CPU level that this machine runs. With FAULTLINE_GPU=1, the GPU and nothing else.
inline std::vector<std::unique_ptr<Device>> all_devices(std::uint64_t schedule = 1) {
  std::vector<std::unique_ptr<Device>> out;
  if (auto gpu = wanted_gpu()) {
    out.push_back(std::move(gpu));
    return out;
  }
  for (const CpuLevel level : cpu_levels()) out.push_back(make_cpu_device(level));
  out.push_back(std::make_unique<EmulatedDevice>(run_seed() + schedule));
  return out;
}
/// The best CPU level and the emulator: for tests whose point is not the instruction set.
inline std::vector<std::unique_ptr<Device>> two_devices(std::uint64_t schedule = 1) {
  if (std::getenv("FAULTLINE_GPU") != nullptr) return all_devices(schedule);
  std::vector<std::unique_ptr<Device>> out;
  out.push_back(make_cpu_device());
  out.push_back(std::make_unique<EmulatedDevice>(run_seed() + schedule));
  return out;
}
template <class T>
std::vector<T> times(std::vector<T> values, T factor) {
  for (T& v : values) v *= factor;
  return values;
}
inline bool is_emulator(const Device& device) { return dynamic_cast<const EmulatedDevice*>(&device) != nullptr; }

/// FN codes stand for twice what the same FNUZ codes do: scales given to a device are multiplied by this, once for each
/// operand.
inline float unit(const Device& device) { return device.fp8_format() == Fp8Format::fn ? 0.5F : 1.0F; }
/// Random FP8 codes of FNUZ without NaN, roughly normal.
inline std::vector<std::uint8_t> random_codes(Random& random, std::size_t n, float deviation = 30.0F) {
  std::vector<std::uint8_t> out(n);
  // Within +-224: these codes mean the same on a device with FN floats, doubled (unit).
  for (auto& c : out)
    c = fp8_encode(std::fmin(std::fmax(random.normal(deviation), -kFp8FnuzTarget), kFp8FnuzTarget), Fp8Format::fnuz);
  return out;
}
inline reference::Matrix decoded(const std::vector<std::uint8_t>& codes) {
  reference::Matrix out;
  out.reserve(codes.size());
  for (const auto c : codes) out.push_back(static_cast<double>(fp8_decode(c, Fp8Format::fnuz)));
  return out;
}
inline std::vector<std::uint16_t> random_bf16(Random& random, std::size_t n, float deviation = 1.0F) {
  std::vector<std::uint16_t> out(n);
  for (auto& h : out) h = float_to_bf16(random.normal(deviation));
  return out;
}
inline reference::Matrix widened(const std::vector<std::uint16_t>& values) {
  reference::Matrix out;
  out.reserve(values.size());
  for (const auto h : values) out.push_back(static_cast<double>(bf16_to_float(h)));
  return out;
}
inline std::vector<std::uint8_t> bytes_of(const std::vector<std::uint16_t>& values) {
  std::vector<std::uint8_t> out(values.size() * 2);
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

/// Root mean square of a - b over that of b.
template <class A, class B>
double relative_rms(const A& a, const B& b) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return size > 0 ? std::sqrt(error / size) : std::sqrt(error);
}

/// Holds the bits that the first device gave under a name; those of every other device must be the same, NaN being like
/// any NaN. For CPU levels and the emulator, whose code is one text that adds in one order; with a GPU there is one
/// device.
class SameBits {
 public:
  template <class T>
  void expect(const Device& device, const std::string& what, const std::vector<T>& got) {
    std::vector<std::uint32_t> bits;
    bits.reserve(got.size());
    for (const T v : got) bits.push_back(word(v));
    const auto [first, fresh] = first_.try_emplace(what, device.name(), bits);
    if (fresh) return;
    const auto& [name, expected] = first->second;
    ASSERT_EQ(bits.size(), expected.size()) << what;
    std::size_t different = 0, where = 0;
    for (std::size_t i = bits.size(); i-- > 0;)
      if (bits[i] != expected[i]) ++different, where = i;
    EXPECT_EQ(different, 0U) << what << ": of " << bits.size() << " values on " << device.name() << " and on " << name
                             << ", first at " << where << ": " << std::hex << bits[where] << " and " << expected[where];
  }

 private:
  static std::uint32_t word(float v) {
    std::uint32_t u = 0;
    std::memcpy(&u, &v, sizeof u);
    return std::isnan(v) ? 0x7fc00000U : u;
  }
  static std::uint32_t word(std::uint16_t bf16) { return word(bf16_to_float(bf16)); }
  static std::uint32_t word(std::uint8_t code) { return code; }
  static std::uint32_t word(int value) { return static_cast<std::uint32_t>(value); }
  std::map<std::string, std::pair<std::string, std::vector<std::uint32_t>>> first_;
};

#define FAULTLINE_DONE(outcome)                                                              \
  do {                                                                                       \
    const auto faultline_outcome = (outcome);                                                \
    ASSERT_TRUE(static_cast<bool>(faultline_outcome)) << faultline_outcome.failure().text(); \
  } while (false)

}  // namespace faultline::kernels::test
