#include "core/workload/prefixes.h"

#include <algorithm>
#include <vector>

#include "core/base/math.h"
#include "core/base/random.h"

namespace faultline::workload {
namespace {

class PrefixedSource final : public ArrivalSource {
 public:
  PrefixedSource(std::unique_ptr<ArrivalSource> inner, const PrefixesSpec& spec, std::uint64_t seed)
      : inner_(std::move(inner)), spec_(spec), stream_(seed, "workload/prefix") {
    double sum = 0;
    for (std::int64_t r = 0; r < spec.count; ++r)
      cumulative_.push_back(sum += 1 / pow(static_cast<double>(r + 1), spec.zipf));
  }

  bool next(Arrival& arrival) override {
    Arrival a;
    if (!inner_->next(a)) return false;
    Random random = stream_.at(index_++);
    const std::int64_t block = spec_.block_tokens;
    blocks_.clear();
    if (random.uniform() < spec_.share) {
      const double at = random.uniform() * cumulative_.back();
      const auto prefix = std::min<std::int64_t>(
          std::upper_bound(cumulative_.begin(), cumulative_.end(), at) - cumulative_.begin(), spec_.count - 1);
      a.prompt = a.prompt + spec_.tokens;
      const std::int64_t whole = spec_.tokens.v / block;  // a block that the own part begins in is not shared
      for (std::int64_t b = 0; b < whole; ++b) blocks_.push_back(static_cast<std::uint32_t>(prefix * whole + b));
    }
    for (auto n = static_cast<std::int64_t>(blocks_.size()); n * block < a.prompt.v; ++n)
      blocks_.push_back(0x80000000U | (own_++ & 0x7fffffffU));
    a.prefix_blocks = blocks_;
    a.prefix_block_tokens = static_cast<std::uint32_t>(block);
    arrival = a;
    return true;
  }

 private:
  std::unique_ptr<ArrivalSource> inner_;
  PrefixesSpec spec_;
  Random stream_;
  std::vector<double> cumulative_;
  std::vector<std::uint32_t> blocks_;
  std::uint64_t index_ = 0;
  std::uint32_t own_ = 0;
};

}  // namespace

std::unique_ptr<ArrivalSource> with_prefixes(std::unique_ptr<ArrivalSource> inner, const PrefixesSpec& spec,
                                             std::uint64_t seed) {
  return std::make_unique<PrefixedSource>(std::move(inner), spec, seed);
}

}  // namespace faultline::workload
