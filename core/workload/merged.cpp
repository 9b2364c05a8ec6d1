#include "core/workload/merged.h"

#include "core/base/assert.h"

namespace faultline::workload {
namespace {

class MergedSource final : public ArrivalSource {
 public:
  explicit MergedSource(std::vector<MergedPart> parts) {
    for (MergedPart& p : parts) {
      FAULTLINE_ASSERT(p.source != nullptr, "part {} of a load is missing", parts_.size());
      parts_.push_back({std::move(p), {}, false});
      fetch(parts_.back());
    }
  }

  bool next(Arrival& arrival) override {
    // The arrival that was given out last stays whole until now: its prefix blocks are its source's.
    if (given_ < parts_.size()) fetch(parts_[given_]);
    given_ = parts_.size();
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      if (parts_[k].there && (given_ == parts_.size() || parts_[k].head.at < parts_[given_].head.at)) given_ = k;
    }
    if (given_ == parts_.size()) return false;
    arrival = parts_[given_].head;
    arrival.slo_class = static_cast<std::uint8_t>(arrival.slo_class + parts_[given_].part.first_class);
    // Dense numbers of one part are every n-th of all.
    const auto n = static_cast<std::uint32_t>(parts_.size());
    if (arrival.session != kNoSession && arrival.session < kNoSession / n)
      arrival.session = arrival.session * n + static_cast<std::uint32_t>(given_);
    return true;
  }

 private:
  struct Part {
    MergedPart part;
    Arrival head;
    bool there = false;
  };
  static void fetch(Part& p) { p.there = p.part.source->next(p.head); }

  std::vector<Part> parts_;
  std::size_t given_ = ~std::size_t{0};  // whose head was given out last
};

}  // namespace

std::unique_ptr<ArrivalSource> merge(std::vector<MergedPart> parts) {
  return std::make_unique<MergedSource>(std::move(parts));
}

}  // namespace faultline::workload
