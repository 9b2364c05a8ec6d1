// Rare faults. Where a run sees none in a thousand, drawing them as they come spends runs on nothing. Two ways out,
// both unbiased: draw given that one strikes, or draw at raised rates and weigh every run by its likelihood.
//
// Either gives a schedule and a weight w. With the same run without random faults as the base B and the drawn one as A,
// the mean of B + w (A - B) over seeds is the mean that faults as they come have. (Given a fault: w is the probability
// of one, E[A] = (1 - p) B + p E[A | fault]. Raised rates: E[w] = 1 and E[w A] = E[A].) The base takes the noise of
// everything but faults out, since w multiplies differences only.
#pragma once

#include <array>

#include "core/fault/schedule.h"

namespace faultline::fault {

enum class Draw : std::uint8_t {
  plain,          // as they come; w = 1
  given_a_fault,  // at least one random fault strikes: where one is unlikely
  raised,         // rates times `raise`: where two or more at once matter
};
constexpr std::array<std::string_view, 3> enum_names(const Draw*) { return {"plain", "given_a_fault", "raised"}; }

/// How the random faults of an experiment are drawn.
struct SamplingSpec {
  Draw draw = Draw::plain;
  /// Best where it makes a few faults a run; the weights of a run with many spread without bound.
  double raise = 10;
};
void describe(config::Fields& f, SamplingSpec& s);

struct Sample {
  FaultSchedule schedule;
  double weight = 1;
};

/// expand() under a sampling. Errors as expand(); both ways need exponential rates over the whole of a run with an end,
/// without `common`, `repeat`, `until` and `max`.
Sample sample(const std::vector<FaultSpec>& specs, const SamplingSpec& sampling, const ExpandOptions& options,
              const Candidates& candidates, config::Diagnostics& diagnostics);

}  // namespace faultline::fault
