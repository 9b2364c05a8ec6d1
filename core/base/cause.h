// Why an operation or a request ended other than well. A cause exists only if some policy or some reader of a report
// acts on it; numbers are part of the event log's format, so new ones go to the end.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace faultline {

enum class Cause : std::uint8_t {
  none,
  link_down,    // the path broke; retransmissions ran out or a port event came
  peer_lost,    // the other process or node is gone
  device_lost,  // the GPU of an operation failed
  timeout,      // a deadline passed without any answer
  canceled,     // the owner withdrew it
  protection,   // key, range or registration refused
  overload,     // a bound was reached: queue, budget, memory
  stale_epoch,  // the work belongs to an incarnation that was fenced
  too_large,    // the request can never fit (context above the model's or the KV memory's limit)
  no_capacity,  // no instance could take the request within its budget
  retries_exhausted,
  router_lost,  // the router that held the request died
  run_ended,    // the run's end time came first
};

inline constexpr std::array<std::string_view, 14> kCauseNames{
    "none",     "link_down",   "peer_lost", "device_lost", "timeout",           "canceled",    "protection",
    "overload", "stale_epoch", "too_large", "no_capacity", "retries_exhausted", "router_lost", "run_ended"};

constexpr std::string_view name_of(Cause cause) { return kCauseNames[static_cast<std::size_t>(cause)]; }

}  // namespace faultline
