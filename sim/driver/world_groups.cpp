// Steps, workers and what the truth about GPUs and links does to them.
#include <algorithm>

#include "core/base/assert.h"
#include "sim/driver/world.h"

namespace faultline::sim {

topology::NodeGpu World::gpu_of(const Group& g, std::uint32_t rank, std::uint32_t shard) const {
  const std::uint32_t per_node = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(g.nodes.size());
  const std::uint32_t index = rank * g.gpus_per_rank + shard;
  return nth_gpu(g, g.nodes[index / per_node], index % per_node);
}

// ---- steps ----------------------------------------------------------------------------------------------------------

void World::submit_step(std::uint32_t, const control::SubmitStep& s) {
  Group& g = group(s.instance.v, s.step.group);
  const control::RunStep& run = s.step;
  if (!g.workers || g.exec->busy()) {
    post_local(first_node_ + g.head, control::StepEnded{run.op, 0, Cause::device_lost, control::kUnknownRank});
    return;
  }
  if (run.items.empty()) g.exec->start_decode(now_, run.op, run.loads, run.steps_max);
  else g.exec->start_prefill(now_, run.op, run.items, run.loads);
  if (!truth_.fabric_healthy() || g.blame != kNoFault) refresh(g);
  schedule_end(g);
}

void World::schedule_end(Group& g) {
  const Instant end = g.exec->end();
  g.generation = ++generation_;
  if (end != kNever) queue_.push(std::max(now_, end), kGroupEnd, g.number, g.generation);
}

void World::group_end(std::uint32_t index, std::uint64_t generation) {
  Group& g = groups_[index];
  if (g.generation != generation || !g.exec->busy()) return;
  end_step(g, Cause::none, control::kUnknownRank);
}

/// The executor's terminal event for the running op.
void World::end_step(Group& g, Cause cause, std::uint32_t rank) {
  GroupExecutor::Ended ended = g.exec->finish(now_);
  g.generation = ++generation_;
  g.last_op = ended.op;
  g.last_steps = ended.output_tokens > 0 ? ended.steps : 0;
  // What came after its leader had given it up is nobody's.
  if (g.given_up == ended.op && ended.steps > 0)
    ended.output_tokens = ended.output_tokens / ended.steps * std::min(ended.steps, g.given_up_steps);
  if (ended.output_tokens + ended.prefill_tokens > 0)
    observer_.tokens(ended.began, now_, ended.output_tokens, ended.prefill_tokens);
  if (g.missing > 0) run_.tokens_degraded += ended.output_tokens;
  if (ended.prefill_tokens > 0 || (cause != Cause::none && !g.exec->decoding()))
    step_bound(ended.op, cause == Cause::none);
  if (!after_.empty()) {
    for (std::int64_t k = 0; k < std::min<std::int64_t>(ended.steps, 1); ++k) {
      count_event(g.exec->decoding() ? fault::CausalEvent::decode_step : fault::CausalEvent::prefill_step, g.instance);
    }
  }
  if (cause != Cause::none) observer_.symptom(now_, g.instance);
  if (agent_listens(g)) post_local(first_node_ + g.head, control::StepEnded{ended.op, ended.steps, cause, rank});
}

bool World::agent_listens(const Group& g) const {
  const std::uint32_t agent = first_node_ + g.head;
  return alive(agent) && incarnation(agent) == g.agent_incarnation;
}

void World::group_fail(std::uint32_t index, std::uint64_t generation) {
  Group& g = groups_[index];
  if (g.fail_generation != generation || !g.fail_pending) return;
  g.fail_pending = false;
  // The engine ends all ranks of the group when one fails: their peers' state is not trusted any more.
  // Elastic groups keep theirs: the survivors wait for the word on who is left.
  if (setup_.instances[g.instance].groups[g.index].ranks_min > 0) g.waiting = true;
  else g.workers = false;
  if (g.exec->busy()) {
    end_step(g, g.fail_cause, g.fail_rank);
  } else {
    observer_.symptom(now_, g.instance);
    if (agent_listens(g)) {
      post_local(first_node_ + g.head,
                 control::WorkersExited{InstanceId{g.instance}, g.index, g.epoch, g.fail_cause, g.fail_rank});
    }
  }
  account_instance(g.instance);
}

void World::fail_later(Group& g, Duration after, Cause cause, std::uint32_t rank) {
  if (g.fail_pending && g.fail_cause == cause) return;
  g.fail_pending = true;
  g.fail_cause = cause;
  g.fail_rank = rank;
  g.fail_generation = ++generation_;
  queue_.push(now_ + after, kGroupFail, g.number, g.fail_generation);
}

void World::kill_group(std::uint32_t instance, std::uint32_t index, control::Epoch epoch) {
  Group& g = group(instance, index);
  if (g.epoch > epoch) return;  // a late command of an incarnation before: these are not the workers it means
  g.workers = false;
  g.fail_pending = false;
  if (g.exec->busy()) end_step(g, Cause::canceled, control::kUnknownRank);
  account_instance(instance);
}

// ---- launching ------------------------------------------------------------------------------------------------------

void World::launch(std::uint32_t agent, const control::StartGroup& start) {
  if (start.kind != control::StartGroup::Kind::whole) {
    launch_survivors({start, agent, incarnation(agent), false, {}});
    return;
  }
  Group& g = group(start.instance.v, start.group);
  kill_group(start.instance.v, start.group, start.epoch);
  g.launching = std::max(g.launching, start.epoch);
  const control::EngineSpec& engine = engine_of(start.instance.v);
  launches_.push_back({start, agent, incarnation(agent), false, {}});
  // A first check of the hardware once the processes are up; then the rest of the start.
  queue_.push(now_ + start.delay + (start.warm ? Duration{0} : engine.restart_process), kLaunch,
              static_cast<std::uint32_t>(launches_.size() - 1), 0);
}

std::uint32_t World::bad_node_of(const std::vector<std::uint32_t>& nodes, bool check_paths, const Group& g,
                                 const std::vector<bool>& absent) {
  const std::uint32_t used = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(nodes.size());
  const auto away = [&](std::size_t node, std::uint32_t k) {
    return !absent.empty() && k < used && absent[(node * used + k) / g.gpus_per_rank];
  };
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::uint32_t n = nodes[i];
    bool none = true;
    for (std::uint32_t k = 0; k < used; ++k) none &= away(i, k);
    if (none) continue;
    if (truth_.down(setup_.topology->node(NodeId{n}))) return n;
    for (std::uint32_t k = 0; k < used; ++k) {
      if (away(i, k)) continue;
      if (truth_.down(setup_.topology->gpu(nth_gpu(g, n, k)))) return n;
    }
  }
  if (check_paths && nodes.size() > 1) {
    std::vector<topology::LinkIndex> path;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const std::uint32_t a = nodes[i];
      std::uint32_t cut = 0;
      for (std::size_t j = 0; j < nodes.size(); ++j) {
        const std::uint32_t b = nodes[j];
        if (a == b) continue;
        for (std::uint32_t k = 0; k < setup_.topology->layout.gpus; ++k) {
          if (away(i, k) || away(j, k)) continue;
          if (!paths_.choose({NodeId{a}, k}, {NodeId{b}, k}, 0, truth_.links(), path)) {
            ++cut;
            break;
          }
        }
      }
      if (cut > nodes.size() / 2 || (cut > 0 && nodes.size() == 2)) return a;
    }
  }
  return control::kUnknownRank;
}

void World::launch_step(std::uint32_t index) {
  Launch& l = launches_[index];
  if (!alive(l.agent) || incarnation(l.agent) != l.agent_incarnation) return;
  const control::StartGroup& s = l.start;
  if (s.kind == control::StartGroup::Kind::join) return launch_join(index);
  if (s.kind == control::StartGroup::Kind::restore) return experts_restored(index);
  if (s.kind != control::StartGroup::Kind::whole) return survivors_formed(index);
  Group& g = group(s.instance.v, s.group);
  const control::EngineSpec& engine = engine_of(g.instance);
  std::uint32_t bad = bad_node_of(s.nodes, true, g, {});
  // A leader that is to start with these workers needs its node too.
  if (bad == control::kUnknownRank && !alive(first_instance_ + s.instance.v) &&
      truth_.down(setup_.topology->node(NodeId{s.leader_node}))) {
    bad = s.leader_node;
  }
  const auto answer = [&](Cause cause, std::uint32_t node) {
    dispatch(l.agent, control::LaunchEnded{s.instance, s.group, s.epoch, cause, node});
  };
  if (g.launching > s.epoch) {  // a later start has replaced this one
    answer(Cause::canceled, control::kUnknownRank);
    return;
  }
  if (bad != control::kUnknownRank) {
    answer(Cause::device_lost, bad);
    return;
  }
  if (s.rank != control::kUnknownRank && g.dead && g.dead_rank != s.rank) {  // not the only one that has to restart
    answer(Cause::device_lost, control::kUnknownRank);
    return;
  }
  if (!l.checked) {
    l.checked = true;
    for (const std::uint32_t n : s.nodes) {  // a new process resets its GPUs: a hang is over
      for (std::uint32_t k = 0; k < g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(s.nodes.size()); ++k)
        truth_.clear_hang(setup_.topology->gpu(nth_gpu(g, n, k)));
    }
    Duration rest = s.warm ? Duration{0} : engine.restart_total() - engine.restart_process;
    if (!s.warm && s.keep_weights) rest = rest - engine.restart_weights;
    if (!s.warm && !s.keep_weights && storage_slowdown_ > 1) {
      rest += duration_from_seconds(seconds(engine.restart_weights) * (storage_slowdown_ - 1));
    }
    queue_.push(now_ + rest, kLaunch, index, 0);
    return;
  }
  if (bad_rollouts_ > 0) {  // the new workers fail their health check; no node is to blame
    answer(Cause::timeout, control::kUnknownRank);
    return;
  }
  const double usable = g.usable;  // the interval of the old nodes ends here
  set_usable(g, 1, true);
  move_group(g, s.nodes);
  g.role = s.role == control::GroupRole::as_set_up ? setup_.instances[g.instance].groups[g.index].role : s.role;
  begin_whole(g);
  set_usable(g, usable);
  g.epoch = s.epoch;
  g.workers = true;
  g.dead = false;
  g.agent_incarnation = incarnation(first_node_ + g.head);
  g.fail_pending = false;
  measure_paths(g);
  const std::uint32_t leader = first_instance_ + s.instance.v;
  if (!alive(leader)) {
    entities_[leader].host = setup_.topology->node(NodeId{s.leader_node});
    messages_.move(leader, entities_[leader].host.v);
    restart(leader);
  }
  refresh(g);
  account_instance(s.instance.v);
  answer(Cause::none, control::kUnknownRank);
}

// ---- health ---------------------------------------------------------------------------------------------------------

/// Load of the busiest link relative to its present capacity when every GPU of a node sends one unit to its counterpart
/// on each other node of the group. `broken`: some pair has no path.
double World::path_load(const Group& g, const topology::LinkState& links, bool& broken) {
  broken = false;
  if (g.nodes.size() < 2) return 0;
  std::unordered_map<std::uint32_t, double> load;
  std::vector<topology::LinkIndex> path;
  const std::uint32_t per_node = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(g.nodes.size());
  double worst = 0;
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    for (std::size_t j = 0; j < g.nodes.size(); ++j) {
      if (i == j) continue;
      const std::uint32_t a = g.nodes[i], b = g.nodes[j];
      for (std::uint32_t k = 0; k < per_node; ++k) {
        if (rank_of_gpu_absent(g, i, k) || rank_of_gpu_absent(g, j, k)) continue;
        if (!paths_.choose(nth_gpu(g, a, k), nth_gpu(g, b, k), hash_combine(a, b), links, path)) {
          broken = true;
          return 0;
        }
        for (const topology::LinkIndex l : path) {
          const double capacity = static_cast<double>(paths_.capacity()[l.v].v) * links.factor(l);
          worst = std::max(worst, load[l.v] += 1e9 / capacity);
        }
      }
    }
  }
  return worst;
}

void World::measure_paths(Group& g) {
  bool broken = false;
  g.healthy_path_load = path_load(g, whole_links_, broken);
  FAULTLINE_ASSERT(!broken, "instance {} group {} has no path between its nodes", g.instance, g.index);
  const double shared = setup_.background.empty() ? 0 : path_load(g, shared_links_, broken);
  g.shared_rdma = shared > 0 ? std::min(1.0, g.healthy_path_load / shared) : 1;
}

World::Health World::health_of(const Group& g) {
  Health h;
  const topology::Topology& topology = *setup_.topology;
  const std::uint32_t per_node = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(g.nodes.size());
  bool slow = false;
  h.silent = !agent_listens(g);
  const control::EngineSpec& engine = engine_of(g.instance);
  if (g.dead) {
    h.stalled = true;
    h.workers_dead = g.dead_cause == Cause::device_lost;
    h.cause = g.dead_cause;
    h.rank = g.dead_rank;
    h.notice = h.workers_dead ? engine.process_exit_notice : setup_.retransmission_budget;
    return h;
  }
  for (std::uint32_t k = 0; k < g.nodes.size(); ++k) {
    const NodeId n{g.nodes[k]};
    bool away = true;
    for (std::uint32_t x = 0; x < per_node; ++x) away &= rank_of_gpu_absent(g, k, x);
    if (away) continue;
    if (truth_.down(topology.node(n))) {
      h.stalled = h.node_lost = true;
      h.rank = control::kUnknownRank;
      h.cause = Cause::peer_lost;
      h.notice = setup_.retransmission_budget;
      continue;
    }
    for (std::uint32_t x = 0; x < per_node; ++x) {
      if (rank_of_gpu_absent(g, k, x)) continue;
      const ComponentId gpu = topology.gpu(nth_gpu(g, n.v, x));
      const std::uint32_t rank = (k * per_node + x) / g.gpus_per_rank;
      if (truth_.down(gpu)) {
        // Only a rank that is lost alone is named: the others' state must be known to be whole.
        h.rank = h.node_lost || (h.workers_dead && h.rank != rank) ? control::kUnknownRank : rank;
        h.workers_dead = h.stalled = true;
        h.cause = Cause::device_lost;
        h.notice = engine.process_exit_notice;
      } else if (truth_.hung(gpu) && !h.workers_dead) {
        h.stalled = true;
        h.cause = Cause::timeout;
        h.notice = engine.collective_timeout;
      }
      slow |= truth_.slow(gpu) != 1;
    }
  }
  if (h.stalled) return h;
  if (slow) {
    h.slow.assign(g.ranks, 1.0);
    for (std::uint32_t r = 0; r < g.ranks; ++r) {
      for (std::uint32_t s = 0; s < g.gpus_per_rank; ++s)
        h.slow[r] = std::max(h.slow[r], truth_.slow(topology.gpu(gpu_of(g, r, s))));
    }
  }
  if (truth_.fabric_healthy()) return h;
  bool broken = false;
  const double load = path_load(g, truth_.links(), broken);
  if (broken) {
    h.stalled = true;
    h.cause = Cause::link_down;
    h.notice = setup_.retransmission_budget;
  } else if (g.nodes.size() > 1 && load > 0) {
    h.rdma = std::min(1.0, g.healthy_path_load / load);
  }
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {  // the slowest xGMI link paces the node's all-to-all
    for (std::uint32_t a = 0; a < per_node && topology.layout.mesh > 0; ++a) {
      for (std::uint32_t b = a + 1; b < per_node; ++b) {
        if (rank_of_gpu_absent(g, i, a) || rank_of_gpu_absent(g, i, b)) continue;
        const topology::LinkIndex l = topology.layout.xgmi(NodeId{g.nodes[i]}, g.first_gpu + a, g.first_gpu + b);
        if (!truth_.links().up(l)) {
          if (!topology.spec.node.xgmi_transit) {
            h.stalled = true;
            h.cause = Cause::device_lost;
            h.notice = engine.process_exit_notice;
            h.workers_dead = true;
          } else {
            h.xgmi = std::min(h.xgmi, 0.5);  // two flows share each link of the detour
          }
        } else {
          h.xgmi = std::min(h.xgmi, truth_.links().factor(l));
        }
      }
    }
  }
  return h;
}

/// A group that has lost one rank and then loses another has no single dead rank any more, also where nobody has looked
/// yet.
void World::note_dead_ranks(Group& g) {
  if (!g.dead || g.dead_rank == control::kUnknownRank) return;
  const std::uint32_t per_node = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(g.nodes.size());
  for (std::uint32_t k = 0; k < g.nodes.size(); ++k) {
    bool another = false;
    for (std::uint32_t x = 0; x < per_node && !another; ++x)
      another = !rank_of_gpu_absent(g, k, x);  // somebody takes part there
    another = another && truth_.down(setup_.topology->node(NodeId{g.nodes[k]}));
    for (std::uint32_t x = 0; x < per_node && !another; ++x) {
      if (rank_of_gpu_absent(g, k, x)) continue;
      another = truth_.down(setup_.topology->gpu(nth_gpu(g, g.nodes[k], x))) &&
                (k * per_node + x) / g.gpus_per_rank != g.dead_rank;
    }
    if (!another) continue;
    g.dead_rank = control::kUnknownRank;
    if (g.fail_pending) g.fail_rank = control::kUnknownRank;
    return;
  }
}

/// Brings a group in line with the truth.
void World::refresh(Group& g) {
  note_dead_ranks(g);
  if (!g.workers || g.waiting) {
    account_instance(g.instance);
    return;
  }
  Health h = health_of(g);
  if (h.stalled) {
    if (!g.dead && (h.workers_dead || h.node_lost)) {
      g.dead = true;
      g.dead_cause = h.cause;
      g.dead_rank = h.rank;
    }
    g.exec->stall(now_);
    g.generation = ++generation_;
    if (g.exec->busy() && g.blame != kNoFault) observer_.hit_all(g.instance, g.blame);
    // An idle group notices a dead process; a hang or a broken path only when it waits for an answer.
    if (!h.silent && (g.exec->busy() || h.workers_dead)) fail_later(g, h.notice, h.cause, h.rank);
  } else {
    if (g.fail_pending) {
      g.fail_pending = false;
      g.fail_generation = ++generation_;
    }
    g.exec->set_environment(now_, std::move(h.slow), h.rdma, h.xgmi);
    if (g.exec->stalled() && !g.rebalancing) g.exec->resume(now_);
    if (g.exec->busy()) schedule_end(g);
    if (g.exec->busy() && g.blame != kNoFault && g.exec->slowdown(g.shared_rdma) > 1)
      observer_.hit_all(g.instance, g.blame);
  }
  account_instance(g.instance);
}

void World::refresh_groups_on(std::span<const NodeId> nodes) {
  std::vector<std::uint32_t> affected;
  for (const NodeId n : nodes)
    affected.insert(affected.end(), groups_on_node_[n.v].begin(), groups_on_node_[n.v].end());
  std::sort(affected.begin(), affected.end());
  affected.erase(std::unique(affected.begin(), affected.end()), affected.end());
  for (const std::uint32_t g : affected) refresh(groups_[g]);
}

void World::refresh_all() {
  for (Group& g : groups_) refresh(g);
}

// ---- accounting -----------------------------------------------------------------------------------------------------

/// Capacity is counted by the places that are to serve: a broken instance's place is taken from the moment that a
/// standby serves in its stead, as a broken node's is from the moment that a spare node does; a broken spare takes
/// nothing away.
void World::count_places(const control::InstanceUpdate& update) {
  const std::uint32_t i = update.instance.v;
  const bool before = counted_[i];
  if (update.accepting) {
    counted_[i] = true;
    std::erase(to_be_replaced_, i);
    const auto place = std::find_if(to_be_replaced_.begin(), to_be_replaced_.end(),
                                    [&](std::uint32_t lost) { return fleet_of(lost) == fleet_of(i); });
    if (!before && place != to_be_replaced_.end()) {
      const std::uint32_t replaced = *place;
      to_be_replaced_.erase(place);
      counted_[replaced] = false;
      account_instance(replaced);
    }
  } else if (!update.serving && !maintained(i)) {
    counted_[i] = false;
    std::erase(to_be_replaced_, i);
  }
  if (counted_[i] != before) account_instance(i);
}

/// Down for the operator's work, and to serve again afterwards: its place stays one that is to serve.
bool World::maintained(std::uint32_t instance) const {
  for (std::uint32_t f = 0; f < setup_.faults.size(); ++f) {
    if (!active_[f] || setup_.faults[f].kind != fault::FaultKind::node_maintenance) continue;
    const std::uint32_t node = setup_.topology->node_of(setup_.faults[f].component).v;
    for (std::uint32_t n = first_group_[instance]; n < first_group_[instance + 1]; ++n) {
      const auto& nodes = groups_[n].nodes;
      if (std::find(nodes.begin(), nodes.end(), node) != nodes.end()) return true;
    }
  }
  return false;
}

double World::usable_of(const Group& g) const {
  if (!counted_[g.instance]) return 1;
  if (!g.workers || g.waiting || g.exec->stalled()) return 0;
  if (!alive(first_instance_ + g.instance)) return 0;  // its leader is gone: nothing is asked of it
  bool prefill = false, decode = false;
  for (std::uint32_t n = first_group_[g.instance]; n < first_group_[g.instance + 1]; ++n) {
    const Group& x = groups_[n];
    if (!x.workers || x.waiting || x.exec->stalled()) continue;
    prefill |= x.role != control::GroupRole::decode;
    decode |= x.role != control::GroupRole::prefill;
  }
  if (!prefill || !decode) return 0;
  return 1 / g.exec->slowdown(g.shared_rdma);
}

void World::account_instance(std::uint32_t instance) {
  for (std::uint32_t k = 0; k < group_count(instance); ++k) account_usable(group(instance, k));
}

void World::account_usable(Group& g) { set_usable(g, usable_of(g)); }

/// Closes the interval that ends here and opens the next.
void World::set_usable(Group& g, double usable, bool close) {
  if (usable == g.usable && !close) return;
  if ((g.usable < 1 || !g.absent.empty()) && g.blame != kNoFault && now_ > g.usable_since) {
    const std::uint32_t used = g.ranks * g.gpus_per_rank / static_cast<std::uint32_t>(g.nodes.size());
    const auto& own = run_.faults[g.blame].own_gpus;
    for (std::size_t i = 0; i < g.nodes.size(); ++i) {
      for (std::uint32_t k = 0; k < used; ++k) {
        const ComponentId gpu = setup_.topology->gpu(nth_gpu(g, g.nodes[i], k));
        const double share = rank_of_gpu_absent(g, i, k) ? 0 : g.usable;
        if (share == 1) continue;
        run_.capacity.push_back({gpu, InstanceId{g.instance}, g.usable_since, now_, share,
                                 std::binary_search(own.begin(), own.end(), gpu), g.blame});
      }
    }
  }
  g.usable = usable;
  g.usable_since = now_;
}

}  // namespace faultline::sim
