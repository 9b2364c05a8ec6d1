// What one request's record says: TTFT, TPOT, latency and whether it met its SLO. The single place of these
// definitions.
#pragma once

#include <optional>

#include "core/record/run_record.h"

namespace faultline::metrics {

/// Arrival to the first token of the attempt that completed. Empty where no token came.
std::optional<Duration> ttft(const record::RequestRecord& r);
/// (end - first token) / (delivered tokens - 1), to the nearest ns, half up. Empty unless completed with two tokens or
/// more.
std::optional<Duration> tpot(const record::RequestRecord& r);
/// Arrival to the last token. Empty unless completed.
std::optional<Duration> latency(const record::RequestRecord& r);
/// Completed within the TTFT and TPOT limits of its class. The TPOT limit is compared exactly, without rounding; a
/// request of one token has no TPOT to miss; a class outside the run's tables has no limits.
bool met_slo(const record::RunRecord& run, const record::RequestRecord& r);

}  // namespace faultline::metrics
