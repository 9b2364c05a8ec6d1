// An incremental state digest: the wrapping sum of the hashes of the entries of a state machine's state, so that
// changing one entry costs two hashes however large the state is. Tests compare it with a full sum after every step.
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <utility>

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

/// A queue whose content and order are part of a digest: each entry counts with its place.
template <class T>
class DigestQueue {
 public:
  explicit DigestQueue(std::uint64_t kind) : kind_(kind) {}
  bool empty() const { return items_.empty(); }
  std::size_t size() const { return items_.size(); }
  const T& front() const { return items_.front(); }
  void push_back(const T& item, Digest& digest) {
    digest.add(hash(first_ + items_.size(), item));
    items_.push_back(item);
  }
  void pop_front(Digest& digest) {
    digest.remove(hash(first_++, items_.front()));
    items_.pop_front();
  }
  void add_to(Digest& digest) const {
    for (std::size_t k = 0; k < items_.size(); ++k) digest.add(hash(first_ + k, items_[k]));
  }

 private:
  std::uint64_t hash(std::uint64_t place, const T& item) const { return entry_hash(kind_, place, item.v); }
  std::uint64_t kind_, first_ = 0;  // place of the front, counted from the first entry ever
  std::deque<T> items_;
};

}  // namespace faultline::control
