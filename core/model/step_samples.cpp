#include "core/model/step_samples.h"

namespace faultline::model {

void StepSamples::append_to(OpShares& out) const {
  for (const auto& kind : cells_) {
    for (const Cell& cell : kind) {
      if (cell.ns <= 0) continue;
      const Breakdown step = pricer_->breakdown(cell.prefill, cell.decode, {});
      double sum = nanoseconds(step.host);
      for (const OpTime& op : step.ops) sum += nanoseconds(op.time);
      if (sum <= 0) continue;
      const double each = cell.ns * weight_ / sum;
      out.total += cell.ns * weight_;
      for (const OpTime& op : step.ops) {
        const double time = nanoseconds(op.time) * each;
        if (time <= 0) continue;
        OpShare& share = out.ops[std::string(op.op.name)];
        share.time += time;
        if (!op.extrapolated) continue;
        share.extrapolated += time;
        if (time <= share.why_time) continue;
        share.why_time = time;
        share.why = op.why;
      }
    }
  }
}

}  // namespace faultline::model
