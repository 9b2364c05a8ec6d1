// From the spans of a batch to the requests that a transport posts: merge neighbours, gather what is contiguous at the
// peer, cut into chunks, deal out over queues (QPs or connections). Pure functions, no sockets and no verbs.
//
// The idea of sorting by remote offset, merging, then gathering and chunking is that of RDMA engines for KV caches
// (ROCm/mori's IO engine is described in the project's notes); 1,000-byte fragments of a contiguous layer become one
// request.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ports/transport.h"

namespace faultline::transport {

struct PlanLimits {
  std::uint32_t sge_max = 16;          // source pieces of one request
  std::int64_t chunk_bytes = 1 << 20;  // a request is cut above this; the last chunk may be up to a quarter longer
  std::uint32_t queues = 1;            // to deal out over
  std::int64_t stripe_min_bytes =
      1 << 18;  // a batch smaller than this stays on one queue: order is free, set-up is not
};

/// A piece of source memory: region and offset within it.
struct Sge {
  RegionId local;
  std::int64_t offset = 0;
  std::int64_t length = 0;
};

/// One write: `length` bytes at the peer from remote_offset on, gathered from sges[first_sge, +sge_count).
struct Request {
  RegionId remote;
  std::int64_t remote_offset = 0;
  std::int64_t length = 0;
  std::uint32_t first_sge = 0;
  std::uint32_t sge_count = 0;
  std::uint32_t queue = 0;
};

struct Plan {
  std::vector<Sge> sges;
  std::vector<Request> requests;  // in order of queue
  std::int64_t bytes = 0;
};

/// Spans without the empty ones, in order of their place at the peer, neighbours that touch on both sides joined.
/// Spans that overlap at the peer keep their order (their result is the caller's business).
std::vector<WriteSpan> merge_spans(std::span<const WriteSpan> spans);

/// Joins merged spans that touch at the peer into requests of at most sge_max pieces and at most `bytes_max` bytes.
Plan gather(std::span<const WriteSpan> merged, std::uint32_t sge_max, std::int64_t bytes_max);

/// Cuts requests longer than chunk_bytes. A rest shorter than a quarter of a chunk stays with the chunk before it.
Plan chunk(const Plan& plan, std::int64_t chunk_bytes);

/// Deals the requests out in contiguous runs of about equal bytes. The difference between two queues is at most two
/// requests' length. Below stripe_min_bytes everything goes to queue 0 (the caller rotates).
void stripe(Plan& plan, std::uint32_t queues, std::int64_t stripe_min_bytes);

/// All four.
Plan plan_batch(std::span<const WriteSpan> spans, const PlanLimits& limits);

}  // namespace faultline::transport
