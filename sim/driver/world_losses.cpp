// Tokens of what is lost. A leader hears of decode steps when a run ends; when it, its groups or a router end in the
// middle of one, the clients have had more tokens than it knows. The world knows, and nothing is counted twice.
#include <algorithm>

#include "sim/driver/world.h"

namespace faultline::sim {

/// Decode steps of a group's op that its leader has not been told of.
std::int64_t World::unreported_steps(std::uint32_t instance, std::uint32_t index) {
  const Group& g = group(instance, index);
  const OpId op = leader(instance).running(index);
  if (!op.valid()) return 0;
  if (g.exec->op() == op) return g.exec->steps_by(now_);
  return g.last_op == op ? g.last_steps : 0;
}

/// What the leader of an instance holds at this instant, the steps that it has not been told of included.
control::Commands World::held_by(std::uint32_t instance) {
  std::vector<std::int64_t> more(group_count(instance));
  for (std::uint32_t g = 0; g < more.size(); ++g) more[g] = unreported_steps(instance, g);
  control::Commands notes;
  leader(instance).account_loss(more, notes);
  return notes;
}

void World::give_up(Group& g, OpId op, std::int64_t steps) {
  g.given_up = op;
  g.given_up_steps = steps;
}

/// The leader forgets sequences in the middle of a run: what they had by now is lost, not what it knew of.
void World::step_that_may_lose(std::uint32_t e, const control::Event& event) {
  const std::uint32_t i = entities_[e].address.index;
  std::vector<OpId> op(group_count(i));
  std::vector<std::int64_t> steps(group_count(i));
  for (std::uint32_t k = 0; k < op.size(); ++k) {
    op[k] = leader(i).running(k);
    steps[k] = unreported_steps(i, k);
  }
  control::Commands held = held_by(i);
  entities_[e].controller->step(now_, event, commands_);
  for (std::uint32_t k = 0; k < op.size(); ++k) {
    if (!op[k].valid() || leader(i).running(k) == op[k]) continue;
    // Survivors of a group that keeps them do the steps again that nobody reported.
    const bool redone = leader(i).decoding(k) > 0;
    give_up(group(i, k), op[k], redone ? 0 : steps[k]);
    if (redone) steps[k] = 0;
  }
  // Those that were decoding in a group whose run went on, or whose survivors go on, are as their leader knows them.
  for (const control::Command& c : held) {
    const auto& n = std::get<control::NoteAttemptLost>(c);
    const std::int16_t g = run_.requests[n.request.v].decode_group;
    if (g >= 0 && steps[static_cast<std::size_t>(g)] > 0) corrected_.emplace_back(n.request, n.produced);
  }
}

void World::correct_losses() {
  for (control::Command& c : commands_) {
    if (auto* resumed = std::get_if<control::NoteResumed>(&c)) {  // its client has them all, and they are made again
      const auto it = std::find_if(corrected_.begin(), corrected_.end(),
                                   [&](const auto& known) { return known.first == resumed->request; });
      if (it == corrected_.end() || it->second <= resumed->produced) continue;
      resumed->again += it->second - resumed->produced;
      resumed->produced = it->second;
    }
    auto* lost = std::get_if<control::NoteAttemptLost>(&c);
    if (lost == nullptr) continue;
    const auto it = std::find_if(corrected_.begin(), corrected_.end(),
                                 [&](const auto& known) { return known.first == lost->request; });
    if (it == corrected_.end() || it->second <= lost->produced) continue;
    lost->produced = it->second;
    // The tokens went through a router, which knows how many it has passed on.
    const auto router = router_of_.find(lost->request);
    if (setup_.router.spec.retry.migrate && router != router_of_.end()) {
      post_local(router->second.router,
                 control::StreamCut{lost->request, run_.requests[lost->request.v].attempts - 1U, lost->produced});
    }
  }
  corrected_.clear();
}

/// What a router has passed on when it dies is all that its clients get.
void World::cut_streams(std::uint32_t router) {
  for (std::uint32_t i = 0; i < setup_.instances.size(); ++i) {
    if (!alive(first_instance_ + i)) continue;
    for (const auto& note : held_by(i)) {
      const auto& held = std::get<control::NoteAttemptLost>(note);
      const auto it = router_of_.find(held.request);
      if (it != router_of_.end() && it->second.router == router && it->second.incarnation == incarnation(router))
        observer_.stream_cut(held.request, held.produced);
    }
  }
}

void World::crash(std::uint32_t index, bool process_only) {
  if (!alive(index)) return;
  Entity& e = entities_[index];
  e.timers.clear();
  if (e.address.role == Role::instance) {
    for (const auto& n : held_by(e.address.index)) {
      observer_.note(now_, n);
      if (!setup_.router.spec.retry.migrate) continue;
      const auto& held = std::get<control::NoteAttemptLost>(n);
      const auto router = router_of_.find(held.request);
      if (router == router_of_.end()) continue;
      post_local(router->second.router,
                 control::StreamCut{held.request, run_.requests[held.request.v].attempts - 1U, held.produced});
    }
    for (std::uint32_t k = 0; k < group_count(e.address.index); ++k) {
      const OpId op = leader(e.address.index).running(k);
      if (op.valid()) give_up(group(e.address.index, k), op, unreported_steps(e.address.index, k));
    }
  } else if (e.address.role == Role::router) {
    cut_streams(index);
  }
  messages_.crash(index, process_only);
  if (e.address.role == Role::instance) account_instance(e.address.index);
  if (e.address.role == Role::router)
    queue_.push(now_ + setup_.timing.control_latency, kRouterNotice, index, incarnation(index));
}

}  // namespace faultline::sim
