#include "core/metrics/request.h"

namespace faultline::metrics {

using record::Outcome;
using record::RequestRecord;

std::optional<Duration> ttft(const RequestRecord& r) {
  if (r.first_token == kNever || r.arrival == kNever) return std::nullopt;
  return r.first_token - r.arrival;
}

std::optional<Duration> tpot(const RequestRecord& r) {
  if (r.outcome != Outcome::completed || r.first_token == kNever || r.end == kNever || r.output_delivered < 2)
    return std::nullopt;
  const std::int64_t gaps = r.output_delivered - 1;
  return Duration{((r.end - r.first_token).v + gaps / 2) / gaps};
}

std::optional<Duration> latency(const RequestRecord& r) {
  if (r.outcome != Outcome::completed || r.end == kNever) return std::nullopt;
  return r.end - r.arrival;
}

bool met_slo(const record::RunRecord& run, const RequestRecord& r) {
  if (r.outcome != Outcome::completed || r.first_token == kNever || r.end == kNever) return false;
  const Duration ttft_limit = r.slo_class < run.slo_ttft.size() ? run.slo_ttft[r.slo_class] : kForever;
  const Duration tpot_limit = r.slo_class < run.slo_tpot.size() ? run.slo_tpot[r.slo_class] : kForever;
  if (r.first_token - r.arrival > ttft_limit) return false;
  if (r.output_delivered < 2 || tpot_limit == kForever) return true;
  const std::int64_t gaps = r.output_delivered - 1;
  // limit * gaps could overflow for absurd limits; division keeps the comparison exact: d <= limit * gaps.
  const std::int64_t d = (r.end - r.first_token).v;
  return d / gaps < tpot_limit.v || (d / gaps == tpot_limit.v && d % gaps == 0);
}

}  // namespace faultline::metrics
