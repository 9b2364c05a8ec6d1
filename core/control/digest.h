// An incremental state digest: the wrapping sum of the hashes of the entries of a state machine's state, so that changing
// one entry costs two hashes however large the state is. Tests compare it with a full sum after every step.
#pragma once

#include <cstdint>

#include "core/base/hash.h"

namespace faultline::control {

class Digest {
 public:
  void add(std::uint64_t entry) { sum_ += entry; }
  void remove(std::uint64_t entry) { sum_ -= entry; }
  void replace(std::uint64_t before, std::uint64_t after) { sum_ += after - before; }
  std::uint64_t value() const { return mix64(sum_); }
  friend bool operator==(Digest, Digest) = default;

 private:
  std::uint64_t sum_ = 0;
};

/// Hash of one entry from its parts; the first part should name the kind of entry.
template <class... Parts>
constexpr std::uint64_t entry_hash(Parts... parts) {
  std::uint64_t h = 0x2545f4914f6cdd1dULL;
  ((h = (h ^ static_cast<std::uint64_t>(parts)) * 0x9fb21c651e98df25ULL, h ^= h >> 29), ...);
  return mix64(h);
}

}  // namespace faultline::control
