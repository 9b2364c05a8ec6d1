// What a fleet promises through one fault, checked on a whole run.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "tests/sim/driver/scenario.h"

namespace faultline::test {

/// The first promise that the run broke, "" for none: every request ends, completed with all its tokens or lost with
/// its router; who arrives after `serves_again` seconds notices nothing; the controllers' log replays.
inline std::string broken_promise(const Outcome& o, double serves_again) {
  if (o.run.requests.size() < 300) return "the run did not come to its end";
  if (!o.run.faults.at(0).applied) return "the fault was not applied: " + o.run.faults[0].not_applied_reason;
  for (std::size_t i = 0; i < o.run.requests.size(); ++i) {
    const auto& r = o.run.requests[i];
    const auto problem = [&](std::string_view what) {
      return fmt::format("request {} arrived at {:.3f} s, {} attempts, instance {}: {} ({})", i, seconds(r.arrival),
                         r.attempts, static_cast<std::int32_t>(r.instance.v), what, name_of(r.cause));
    };
    if (r.outcome == record::Outcome::unfinished) return problem("did not end");
    if (r.outcome == record::Outcome::rejected) return problem("was rejected");
    if (r.outcome == record::Outcome::failed && r.cause != Cause::router_lost) return problem("failed");
    if (r.outcome == record::Outcome::completed && r.output_delivered != r.output_tokens)
      return problem("completed without all its tokens");
    if (seconds(r.arrival) <= serves_again) continue;
    if (r.attempts != 1) return problem("was tried again after the repair");
    if (seconds(r.first_token - r.arrival) > 3) return problem("waited for its first token after the repair");
  }
  const experiment::ReplayResult replayed = experiment::replay(o.log, read_file);
  return replayed.matches ? "" : "replay differs: " + replayed.who + "\n" + replayed.difference;
}

}  // namespace faultline::test
