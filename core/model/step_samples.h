// What a run's step time consisted of, at a cost that does not grow with the run: durations are added up by kind of
// step and size of the batch (powers of two of its tokens), and the longest operation of each cell stands for all of
// it. At the end one breakdown a cell tells the operations' shares.
//
// Error: a cell's shares are those of one of its batches, within a factor of two in tokens of all the others.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/model/load.h"
#include "core/model/pricer.h"

namespace faultline::model {

/// Time of the operations of one name, in any one unit.
struct OpShare {
  double time = 0;
  double extrapolated = 0;  // of it, priced outside of what was measured
  std::string why;          // of the longest such part
  double why_time = 0;      // its time
};
struct OpShares {
  std::map<std::string, OpShare> ops;
  double total = 0;  // of all operations and the host
};

class StepSamples {
 public:
  /// `pricer` outlives it. `weight` is what one nanosecond counts: the GPUs that it occupies.
  explicit StepSamples(const StepPricer& pricer, double weight = 1) : pricer_(&pricer), weight_(weight) {}

  /// Steps that took `ns` together: a prefill pass (prefill not empty), or decode steps that began with these loads.
  void add(const std::vector<PrefillItem>& prefill, const std::vector<RankLoad>& decode, std::int64_t ns) {
    std::int64_t tokens = 0;
    for (const RankLoad& load : decode) tokens += load.sequences;
    for (const PrefillItem& item : prefill) tokens += item.chunk_tokens;
    Cell& cell = cells_[prefill.empty() ? 0 : 1][static_cast<std::size_t>(std::bit_width(bits(tokens)))];
    cell.ns += static_cast<double>(ns);
    if (ns <= cell.longest_ns) return;
    // At least a quarter longer than the last one kept, so that a slowly growing series is not copied every time.
    cell.longest_ns = ns + ns / 4;
    cell.prefill = prefill;
    cell.decode = decode;
  }

  /// Adds the shares of everything added so far.
  void append_to(OpShares& out) const;

 private:
  static std::uint64_t bits(std::int64_t tokens) {
    return static_cast<std::uint64_t>(std::min<std::int64_t>(tokens, (std::int64_t{1} << 32) - 1));
  }
  struct Cell {
    double ns = 0;
    std::int64_t longest_ns = 0;
    std::vector<PrefillItem> prefill;
    std::vector<RankLoad> decode;
  };
  const StepPricer* pricer_;
  double weight_;
  std::array<std::array<Cell, 33>, 2> cells_;
};

}  // namespace faultline::model
