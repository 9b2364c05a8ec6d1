#include "backend/transport/plan.h"

#include <algorithm>
#include <tuple>

namespace faultline::transport {
namespace {

bool touches_at_peer(const WriteSpan& a, const WriteSpan& b) {
  return a.remote == b.remote && a.remote_offset + a.length == b.remote_offset;
}
bool touches_here(const WriteSpan& a, const WriteSpan& b) {
  return a.local == b.local && a.local_offset + a.length == b.local_offset;
}

}  // namespace

std::vector<WriteSpan> merge_spans(std::span<const WriteSpan> spans) {
  std::vector<WriteSpan> sorted;
  sorted.reserve(spans.size());
  for (const WriteSpan& span : spans) {
    if (span.length.v > 0) sorted.push_back(span);
  }
  const auto place = [](const WriteSpan& a, const WriteSpan& b) {
    return std::tie(a.remote, a.remote_offset) < std::tie(b.remote, b.remote_offset);
  };
  if (!std::is_sorted(sorted.begin(), sorted.end(), place)) {
    const std::vector<WriteSpan> given = sorted;
    std::stable_sort(sorted.begin(), sorted.end(), place);
    for (std::size_t i = 1; i < sorted.size(); ++i) {
      const WriteSpan& before = sorted[i - 1];
      if (before.remote == sorted[i].remote && before.remote_offset + before.length > sorted[i].remote_offset) {
        sorted = given;
        break;
      }
    }
  }
  std::vector<WriteSpan> merged;
  merged.reserve(sorted.size());
  for (const WriteSpan& span : sorted) {
    if (!merged.empty() && touches_at_peer(merged.back(), span) && touches_here(merged.back(), span))
      merged.back().length += span.length;
    else merged.push_back(span);
  }
  return merged;
}

Plan gather(std::span<const WriteSpan> merged, std::uint32_t sge_max, std::int64_t bytes_max) {
  FAULTLINE_ASSERT(sge_max > 0 && bytes_max > 0, "sge_max={} bytes_max={}", sge_max, bytes_max);
  Plan plan;
  const WriteSpan* before = nullptr;
  for (const WriteSpan& span : merged) {
    const bool joins = before && touches_at_peer(*before, span) && plan.requests.back().sge_count < sge_max &&
                       plan.requests.back().length + span.length.v <= bytes_max;
    if (!joins) {
      plan.requests.push_back({.remote = span.remote,
                               .remote_offset = span.remote_offset.v,
                               .length = 0,
                               .first_sge = static_cast<std::uint32_t>(plan.sges.size()),
                               .sge_count = 0,
                               .queue = 0});
    }
    plan.sges.push_back({span.local, span.local_offset.v, span.length.v});
    plan.requests.back().length += span.length.v;
    ++plan.requests.back().sge_count;
    plan.bytes += span.length.v;
    before = &span;
  }
  return plan;
}

Plan chunk(const Plan& plan, std::int64_t chunk_bytes) {
  FAULTLINE_ASSERT(chunk_bytes > 0, "chunk_bytes={}", chunk_bytes);
  Plan cut;
  cut.bytes = plan.bytes;
  for (const Request& request : plan.requests) {
    std::int64_t done = 0;
    std::uint32_t sge = request.first_sge;
    std::int64_t sge_done = 0;
    while (done < request.length) {
      std::int64_t take = std::min(chunk_bytes, request.length - done);
      const std::int64_t rest = request.length - done - take;
      if (rest < chunk_bytes / 4) take += rest;
      Request part{.remote = request.remote,
                   .remote_offset = request.remote_offset + done,
                   .length = take,
                   .first_sge = static_cast<std::uint32_t>(cut.sges.size()),
                   .sge_count = 0,
                   .queue = request.queue};
      for (std::int64_t left = take; left > 0;) {
        const Sge& source = plan.sges[sge];
        const std::int64_t piece = std::min(left, source.length - sge_done);
        cut.sges.push_back({source.local, source.offset + sge_done, piece});
        ++part.sge_count;
        left -= piece;
        sge_done += piece;
        if (sge_done == source.length) {
          ++sge;
          sge_done = 0;
        }
      }
      done += take;
      cut.requests.push_back(part);
    }
  }
  return cut;
}

void stripe(Plan& plan, std::uint32_t queues, std::int64_t stripe_min_bytes) {
  if (queues <= 1 || plan.bytes < stripe_min_bytes) return;
  std::int64_t before = 0;
  for (Request& request : plan.requests) {
    // The queue in whose share the middle of the request lies.
    const std::int64_t middle = before + request.length / 2;
    request.queue = static_cast<std::uint32_t>(
        std::min<std::int64_t>(queues - 1, middle * queues / std::max<std::int64_t>(plan.bytes, 1)));
    before += request.length;
  }
}

Plan plan_batch(std::span<const WriteSpan> spans, const PlanLimits& limits) {
  // A request that gathers may be as long as its last chunk may be, so that gathering never forces a cut.
  Plan plan = gather(merge_spans(spans), limits.sge_max, limits.chunk_bytes);
  const bool long_ones = std::any_of(plan.requests.begin(), plan.requests.end(),
                                     [&](const Request& request) { return request.length > limits.chunk_bytes; });
  if (long_ones) plan = chunk(plan, limits.chunk_bytes);
  stripe(plan, limits.queues, limits.stripe_min_bytes);
  return plan;
}

}  // namespace faultline::transport
