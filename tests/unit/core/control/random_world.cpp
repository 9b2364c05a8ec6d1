#include "tests/unit/core/control/random_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "core/record/event_log.h"
#include "tests/unit/core/control/support.h"

namespace faultline::control::testing {
namespace {
constexpr std::uint32_t kInstances = 3, kRouters = 2, kNodesPerInstance = 3, kSpares = 2;
constexpr std::uint32_t kNodes = kInstances * kNodesPerInstance + kSpares;
}  // namespace

RandomWorld::RandomWorld(WorldOptions options) : options_(options), random_(options.seed, "test/random world") {
  fleet_.nodes = kNodes;
  fleet_.routers = kRouters;
  fleet_.restart_unit = options_.unit;
  fleet_.recovery = {.policy = options_.policy,
                     .decision_delay = 100_ms,
                     .retry_interval = 2_s,
                     .retry_interval_max = 8_s,
                     .node_attach = 1_s};
  if (options_.policy == RecoveryAction::spare_node || options_.spares) fleet_.spare_nodes = {kNodes - 2, kNodes - 1};
  fleet_.recovery.elastic.rejoin_check = 1_s;
  fleet_.recovery.elastic.rank_start = 1_s;
  fleet_.autoscaler = {.enabled = options_.scaling,
                       .instances_min = 1,
                       .interval = 1_s,
                       .scale_up_tokens = 800,
                       .scale_down_tokens = 300,
                       .cooldown = 3_s};
  for (std::uint32_t i = 0; i < kInstances; ++i) {
    const std::uint32_t n = i * kNodesPerInstance;
    InstanceSetup s;
    s.id = InstanceId{i};
    s.engine.block_tokens = 16;
    s.engine.max_num_batched_tokens = 64;
    s.engine.max_num_seqs = 4;
    s.engine.max_model_len = 1'000;
    s.restart_unit = options_.unit;
    s.kv_bytes_per_token = Bytes{1};
    s.routers = kRouters;
    s.signal_interval = 50_ms;
    s.report_to_fleet = options_.scaling;
    s.replication = {.enabled = options_.replicate, .interval = 15_ms, .memory_share = 1};
    if (options_.seed % 3 == 0) s.groups = {{GroupRole::both, 2, 32, {n, n + 1}}, {GroupRole::both, 1, 24, {n + 2}}};
    else
      s.groups = {{GroupRole::prefill, 2, 24, {n}},
                  {GroupRole::decode, 2, 24, {n + 1, n + 2}},
                  {GroupRole::decode, 1, 24, {n + 2}}};
    const bool standby = (options_.policy == RecoveryAction::spare_instance || options_.scaling) && i == kInstances - 1;
    s.up = !(standby && options_.seed % 2 == 0);  // warm or cold
    for (GroupSetup& g : s.groups) g.ranks_min = fleet_.recovery.keeps_survivors() && g.ranks > 1 ? 1 : 0;
    fleet_.instances.push_back({s.groups, n, !standby, s.up});
    for (std::uint32_t g = 0; g < s.groups.size(); ++g) {
      groups_[{i, g}] = {.nodes = s.groups[g].nodes,
                         .workers = s.up,
                         .absent = {},
                         .head = s.groups[g].nodes.front(),
                         .ranks = static_cast<std::uint32_t>(s.groups[g].ranks),
                         .elastic = s.groups[g].ranks_min > 0,
                         .op = {}};
    }
    instances_.push_back(std::move(s));
  }
  const auto add = [&](Address a, std::uint32_t host) {
    entities_[a].host = host;
    entities_[a].controller = make(a, true);
  };
  for (std::uint32_t r = 0; r < kRouters; ++r) add(router_at(r), kNoHost);
  add(kFleetAddress, kNoHost);
  for (std::uint32_t i = 0; i < kInstances; ++i) add(leader_at(i), i * kNodesPerInstance);
  for (std::uint32_t n = 0; n < kNodes; ++n) add(agent_at(n), n);
}

std::unique_ptr<Controller> RandomWorld::make(Address a, bool first) {
  switch (a.role) {
    case Role::router: {
      RouterSetup s;
      s.spec.policy = static_cast<RoutePolicy>(options_.seed % 4);
      s.spec.replicas = kRouters;
      s.spec.retry.attempts_max = 20;
      s.spec.retry.migrate = options_.seed % 2 == 1;
      s.index = a.index;
      s.seed = options_.seed;
      for (const auto& i : fleet_.instances) s.accepting.push_back(i.serving);
      return std::make_unique<Router>(s);
    }
    case Role::fleet: {
      FleetSetup s = fleet_;
      s.term = entities_.at(a).incarnation;
      return std::make_unique<FleetManager>(s);
    }
    case Role::instance: {
      InstanceSetup s = instances_[a.index];
      s.up = s.up && first;
      return std::make_unique<InstanceController>(s);
    }
    default: {
      NodeAgentSetup s;
      s.node = a.index;
      s.transfer = {.deadline = 3_s, .tries_max = 3, .retry_delay = 10_ms};
      return std::make_unique<NodeAgent>(s);
    }
  }
}

void RandomWorld::deliver(Address from, Address to, Event event) {
  Instant& last = last_[{from, to}];
  last = std::max(last, now_ + between(10_us, 2_ms));
  // At most once, to the incarnation that was there when it was sent.
  const std::uint32_t incarnation = entities_.at(to).incarnation;
  at(last, [this, to, incarnation, event = std::move(event)] {
    if (entities_.at(to).incarnation == incarnation) feed(to, event);
  });
}

void RandomWorld::feed(Address to, const Event& event) {
  Entity& e = entities_.at(to);
  if (!e.alive || !failure_.empty()) return;
  Commands out;
  e.controller->step(now_, event, out);
  ++steps_;
  if (trace_) {
    std::string line = fmt::format("{:.6f} {}/{}{}\n", seconds(now_), static_cast<int>(to.role), to.index,
                                   record::describe_event(event));
    for (const Command& c : out) line += fmt::format("      {}\n", record::describe_command(c));
    trace_(line);
  }
  if (e.controller->digest() != e.controller->full_digest()) {
    fail(fmt::format("at {} ns the digest of {}/{} is not that of its state after{}", now_.ns,
                     static_cast<int>(to.role), to.index, record::describe_event(event)));
  }
  e.controller->check();
  for (const Command& c : out) execute(to, c);
}

void RandomWorld::execute(Address from, const Command& command) {
  Entity& e = entities_.at(from);
  if (const auto* send = std::get_if<Send>(&command)) {
    if (entities_.at(send->to).alive) deliver(from, send->to, Received{from, send->message});
  } else if (const auto* arm = std::get_if<ArmTimer>(&command)) {
    const std::uint64_t generation = ++sequence_;
    e.timers[arm->key] = generation;
    if (arm->deadline == kNever) return;
    at(std::max(now_, arm->deadline), [this, from, key = arm->key, generation] {
      auto& timers = entities_.at(from).timers;
      const auto it = timers.find(key);
      if (it == timers.end() || it->second != generation) return;
      timers.erase(it);
      feed(from, TimerFired{key});
    });
  } else if (const auto* disarm = std::get_if<DisarmTimer>(&command)) {
    e.timers.erase(disarm->key);
  } else if (const auto* watch = std::get_if<Watch>(&command)) {
    Entity& peer = entities_.at(watch->peer);
    peer.watchers.insert(from);
    if (!peer.alive) deliver(watch->peer, from, lost(watch->peer));
  } else if (const auto* unwatch = std::get_if<Unwatch>(&command)) {
    entities_.at(unwatch->peer).watchers.erase(from);
  } else if (const auto* step = std::get_if<SubmitStep>(&command)) {
    submit(from, *step);
  } else if (const auto* interrupt = std::get_if<InterruptStep>(&command)) {
    Group& g = groups_.at({interrupt->instance.v, interrupt->group});
    if (g.op == interrupt->op && g.decode && !g.interrupted) {
      g.interrupted = true;
      schedule_end(interrupt->instance.v, interrupt->group);
    }
  } else if (const auto* kill_group = std::get_if<KillGroup>(&command)) {
    if (groups_.at({kill_group->instance.v, kill_group->group}).epoch <= kill_group->epoch)
      kill(kill_group->instance.v, kill_group->group);
  } else if (const auto* launch_group = std::get_if<LaunchGroup>(&command)) {
    launch(from, launch_group->start);
  } else if (const auto* probe = std::get_if<RunProbe>(&command)) {
    at(now_ + between(10_ms, 200_ms), [this, from, incarnation = e.incarnation, token = probe->token] {
      if (entities_.at(from).incarnation == incarnation)
        feed(from, ProbeEnded{token, broken_.contains(from.index) ? 3U : 0U, true});
    });
  } else if (const auto* post = std::get_if<PostWrite>(&command)) {
    if (!writes_.emplace(post->op, false).second) fail(fmt::format("operation {} was posted twice", post->op.v));
    const bool to_dead = down_.contains(post->push.to_node);
    const Cause cause = to_dead ? Cause::peer_lost : !calm_ && random_.chance(0.05) ? Cause::link_down : Cause::none;
    const auto end = [this, from, incarnation = e.incarnation, op = post->op, cause] {
      const auto it = writes_.find(op);
      if (it == writes_.end()) return;
      writes_.erase(it);
      if (entities_.at(from).incarnation == incarnation) feed(from, WriteEnded{op, cause});
    };
    at(now_ + between(1_ms, !calm_ && random_.chance(0.02) ? 5_s : 60_ms), end);
  } else if (const auto* cancel = std::get_if<CancelWrite>(&command)) {
    at(now_, [this, from, op = cancel->op, incarnation = e.incarnation] {
      if (writes_.erase(op) && entities_.at(from).incarnation == incarnation)
        feed(from, WriteEnded{op, Cause::canceled});
    });
  } else if (const auto* resumed = std::get_if<NoteResumed>(&command)) {
    ++resumed_;
    if (resumed->produced >= output_of_.at(resumed->request.v) || resumed->again < 0)
      fail(fmt::format("request {} goes on from {} tokens, {} of them again", resumed->request.v, resumed->produced,
                       resumed->again));
  } else if (const auto* cache = std::get_if<NotePrefixCache>(&command)) {
    cached_ += static_cast<std::uint64_t>(cache->hit);
    cache_lost_ += static_cast<std::uint64_t>(cache->lost);
    if (cache->request.valid() && (cache->hit >= cache->asked || cache->hit % 16 != 0))
      fail(fmt::format("request {} found {} of {} tokens", cache->request.v, cache->hit, cache->asked));
  } else if (const auto* phase = std::get_if<NotePhase>(&command)) {
    role_switches_ += phase->phase == Phase::role_switch;
    replaced_ += phase->phase == Phase::replace;
  } else if (const auto* ended = std::get_if<NoteRequestEnded>(&command)) {
    if (!ended_.insert(ended->request.v).second) fail(fmt::format("request {} ended twice", ended->request.v));
    router_of_.erase(ended->request.v);
    completed_ += ended->cause == Cause::none;
    if (ended->cause == Cause::none && ended->delivered != output_of_.at(ended->request.v)) {
      fail(fmt::format("request {} asked for {} tokens and got {}", ended->request.v, output_of_.at(ended->request.v),
                       ended->delivered));
    }
    if (calm_ && ended->request.v >= static_cast<std::uint32_t>(options_.requests) && ended->cause != Cause::none) {
      fail(fmt::format("request {} ended with {} long after the last fault", ended->request.v, name_of(ended->cause)));
    }
  }
}

// ---- work -----------------------------------------------------------------------------------------------------------

void RandomWorld::submit(Address agent, const SubmitStep& s) {
  const std::uint32_t i = s.instance.v, k = s.step.group;
  Group& g = groups_.at({i, k});
  if (g.op.valid()) fail(fmt::format("two steps at a time in group {} of instance {}", k, i));
  for (const auto& item : s.step.items) {
    if (g.absent.contains(static_cast<std::uint32_t>(item.rank)))
      fail(fmt::format("prefill on the absent rank {} of group {} of instance {}", item.rank, k, i));
  }
  for (std::uint32_t r = 0; r < s.step.loads.size(); ++r) {
    if (s.step.loads[r].sequences > 0 && g.absent.contains(r))
      fail(fmt::format("decode on the absent rank {} of group {} of instance {}", r, k, i));
  }
  if (agent.index != g.head)
    fail(fmt::format("node {} runs a step of group {} of instance {}, whose head is node {}", agent.index, k, i,
                     g.head));
  bool well = g.workers && !g.failed;
  for (const std::uint32_t n : g.nodes) well &= healthy(n) || !g.present_on(n);
  if (!well || (!calm_ && random_.chance(0.002))) {
    if (g.elastic) g.failed = true;
    else stop_workers(g);
    at(now_ + between(1_ms, 300_ms), [this, agent, incarnation = entities_.at(agent).incarnation, op = s.step.op] {
      if (entities_.at(agent).incarnation == incarnation)
        feed(agent, StepEnded{op, 0, Cause::device_lost, static_cast<std::uint32_t>(random_.below(2))});
    });
    return;
  }
  g.op = s.step.op;
  g.decode = s.step.items.empty();
  g.interrupted = false;
  g.steps_max = s.step.steps_max;
  if (g.decode && g.steps_max < 1) fail(fmt::format("a decode run of {} steps", g.steps_max));
  schedule_end(i, k);
}

void RandomWorld::schedule_end(std::uint32_t i, std::uint32_t k) {
  Group& g = groups_.at({i, k});
  g.generation = ++sequence_;
  const bool all = g.decode && !g.interrupted;
  const std::int64_t steps = all ? g.steps_max
                             : g.decode
                                 ? static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(g.steps_max) + 1))
                                 : 1;
  const Instant end = now_ + between(1_ms, 20_ms) * (all ? steps : 1);
  at(end, [this, i, k, steps, generation = g.generation] {
    if (groups_.at({i, k}).generation == generation) end_step(i, k, Cause::none, steps);
  });
}

void RandomWorld::end_step(std::uint32_t i, std::uint32_t k, Cause cause, std::int64_t steps) {
  Group& g = groups_.at({i, k});
  const OpId op = g.op;
  g.op = OpId{};
  g.generation = ++sequence_;
  if (op.valid()) feed(agent_at(g.head), StepEnded{op, steps, cause, kUnknownRank});
}

void RandomWorld::kill(std::uint32_t i, std::uint32_t k) {
  stop_workers(groups_.at({i, k}));
  const OpId op = groups_.at({i, k}).op;
  at(now_, [this, i, k, op] {
    if (op.valid() && groups_.at({i, k}).op == op) end_step(i, k, Cause::canceled, 0);
  });
}

/// Survivors form their group anew, or a rank starts beside it.
void RandomWorld::launch_survivors(Address agent, const StartGroup& start) {
  const bool join = start.beside();
  const std::uint32_t i = start.instance.v;
  if (!join) groups_.at({i, start.group}).launching = std::max(groups_.at({i, start.group}).launching, start.epoch);
  if (!join && groups_.at({i, start.group}).op.valid())
    end_step(i, start.group, Cause::canceled, 0);  // waited on the dead
  at(now_ + start.delay + between(100_ms, 2_s),
     [this, agent, start, i, join, incarnation = entities_.at(agent).incarnation] {
       if (entities_.at(agent).incarnation != incarnation || !entities_.at(agent).alive) return;
       Group& g = groups_.at({i, start.group});
       if (!join && g.launching > start.epoch) return;  // others left meanwhile, or all start anew
       LaunchEnded ended{start.instance, start.group, start.epoch, Cause::none, kUnknownRank, join, 0};
       const std::set<std::uint32_t> absent(start.absent.begin(), start.absent.end());
       for (std::uint32_t r = 0; r < g.ranks; ++r) {
         const bool needed = join ? std::find(start.joining.begin(), start.joining.end(), r) != start.joining.end()
                                  : !absent.contains(r);
         const std::uint32_t node = start.nodes[r * start.nodes.size() / g.ranks];
         if (needed && !healthy(node)) ended.bad_node = node;
       }
       // A manager that was started again does not know of every end of a process before its time: it is told.
       const bool ended_before = !join && !g.workers && g.ended < managed_since_ && g.epoch <= start.epoch;
       if (ended_before || ended.bad_node != kUnknownRank || (!calm_ && random_.chance(0.1))) {
         ended.cause = Cause::device_lost;
       } else if (!join) {
         if (!g.workers) fail(fmt::format("nobody survived in group {} of instance {}", start.group, i));
         g.absent = absent;
         g.nodes = start.nodes;
         g.epoch = start.epoch;
         g.failed = false;
         if (start.kind == StartGroup::Kind::survivors) restored_ += g.missing, g.missing = false;
         else g.missing = true;
         ended.missing_experts = g.missing;
         g.head = agent.index;
       }
       feed(agent, ended);
     });
}

void RandomWorld::launch(Address agent, const StartGroup& start) {
  if (start.kind != StartGroup::Kind::whole) return launch_survivors(agent, start);
  const std::uint32_t i = start.instance.v;
  groups_.at({i, start.group}).launching = std::max(groups_.at({i, start.group}).launching, start.epoch);
  if (groups_.at({i, start.group}).op.valid()) end_step(i, start.group, Cause::canceled, 0);
  stop_workers(groups_.at({i, start.group}));
  at(now_ + start.delay + between(500_ms, 2_s), [this, agent, start, i, incarnation = entities_.at(agent).incarnation] {
    if (entities_.at(agent).incarnation != incarnation) return;
    LaunchEnded ended{start.instance, start.group, start.epoch, Cause::none, kUnknownRank};
    for (const std::uint32_t n : start.nodes) {
      if (!healthy(n)) ended.bad_node = n;
    }
    if (down_.contains(start.leader_node)) ended.bad_node = start.leader_node;
    if (groups_.at({i, start.group}).epoch > start.epoch) {
      ended.cause = Cause::canceled;  // a later start was faster
    } else if (ended.bad_node != kUnknownRank || (!calm_ && random_.chance(0.1))) {
      ended.cause = Cause::device_lost;
    } else {
      for (const auto& [key, other] : groups_) {  // a spare is never spent twice
        if (key.first == i || !other.workers) continue;
        for (const std::uint32_t n : start.nodes) {
          if (std::find(other.nodes.begin(), other.nodes.end(), n) != other.nodes.end())
            fail(fmt::format("node {} serves instances {} and {}", n, key.first, i));
        }
      }
      Group& g = groups_.at({i, start.group});
      g.nodes = start.nodes;
      g.epoch = start.epoch;
      g.workers = true;
      g.role = start.role;
      g.failed = false;
      g.absent.clear();
      g.head = g.nodes.front();
      Entity& leader = entities_.at(leader_at(i));
      if (!leader.alive) {
        leader.host = start.leader_node;
        restart(leader_at(i));
      }
    }
    feed(agent, ended);
  });
}

void RandomWorld::arrive(int request) {
  const auto router = static_cast<std::uint32_t>(random_.below(kRouters));
  const auto id = static_cast<std::uint32_t>(request);
  RequestArrived r{RequestId{id}, static_cast<std::int32_t>(1 + random_.below(200)),
                   static_cast<std::int32_t>(1 + random_.below(40)), 0, random_.below(6)};
  if (r.prefix_key != 0) {  // one of five beginnings of 48 to 144 tokens, then its own; 24 is no multiple of a KV block
    const auto shared = static_cast<std::uint32_t>(1 + r.prefix_key);
    r.prefix.block_tokens = 24;
    r.prefix.tokens = r.prompt;
    for (std::uint32_t b = 0; b * 24 < static_cast<std::uint32_t>(r.prompt); ++b)
      r.prefix.blocks.push_back(b < shared ? shared * 100 + b : 1'000 + id * 10 + b);
  }
  if (!entities_.at(router_at(router)).alive) {
    ended_.insert(id);
    return;
  }
  router_of_[id] = router;
  output_of_[id] = r.output;
  feed(router_at(router), r);
}

// ---- faults ---------------------------------------------------------------------------------------------------------

void RandomWorld::crash(Address a) {
  Entity& e = entities_.at(a);
  if (!e.alive) return;
  e.alive = false;
  e.timers.clear();
  const std::uint32_t incarnation = e.incarnation;
  if (a.role == Role::router) {  // its clients see a reset
    std::erase_if(router_of_, [&](const auto& r) {
      if (r.second != a.index) return false;
      ended_.insert(r.first);
      return true;
    });
  }
  for (const Address w : e.watchers) {
    at(now_ + between(1_s, 3_s), [this, a, w, incarnation] {
      const Entity& peer = entities_.at(a);
      if (!peer.alive && peer.incarnation == incarnation) feed(w, lost(a));
    });
  }
}

void RandomWorld::restart(Address a) {
  Entity& e = entities_.at(a);
  ++e.incarnation;
  e.alive = true;
  e.controller = make(a, false);
  if (a.role == Role::fleet) managed_since_ = now_;
  at(now_, [this, a, incarnation = e.incarnation] {
    if (entities_.at(a).incarnation == incarnation) feed(a, Started{});
  });
  for (const Address w : e.watchers) {
    deliver(a, w, lost(a));
    deliver(a, w, back(a));
  }
}

void RandomWorld::node_down(std::uint32_t node) {
  if (!down_.insert(node).second) return;
  for (auto& [a, e] : entities_) {
    if (e.host == node) crash(a);
  }
  for (auto& [key, g] : groups_) {
    if (std::find(g.nodes.begin(), g.nodes.end(), node) == g.nodes.end() || !g.present_on(node)) continue;
    if (g.elastic) g.failed = true;
    else stop_workers(g);
    g.generation = ++sequence_;  // its step stalls …
    const OpId op = g.op;
    at(now_ + between(100_ms, 2_s), [this, key = key, op] {  // … and fails where somebody is left to notice
      if (op.valid() && groups_.at(key).op == op) end_step(key.first, key.second, Cause::peer_lost, 0);
    });
  }
}

void RandomWorld::node_up(std::uint32_t node) {
  if (down_.erase(node) == 0) return;
  restart(agent_at(node));
}

void RandomWorld::plan_fault(int k) {
  const Instant when = Instant{0} + between(0_s, 40_s);
  const Instant repaired = when + between(100_ms, 20_s);
  const auto node = static_cast<std::uint32_t>(random_.below(kNodes));
  const std::uint64_t kind = random_.below(8);
  const auto router = static_cast<std::uint32_t>(random_.below(kRouters));
  if (k >= options_.faults || !(options_.kept >> k & 1))
    return;  // drawn all the same, so that fewer faults leave the others as they are
  if (kind < 4) {
    at(when, [this, node] { node_down(node); });
    at(repaired, [this, node] { node_up(node); });
  } else if (kind < 7) {
    at(when, [this, node] {
      broken_.insert(node);
      for (auto& [key, g] : groups_) {
        if (down_.contains(node) || !g.workers || std::find(g.nodes.begin(), g.nodes.end(), node) == g.nodes.end() ||
            !g.present_on(node))
          continue;
        if (g.elastic) g.failed = true;
        else stop_workers(g);
        if (g.op.valid()) end_step(key.first, key.second, Cause::device_lost, 0);
        else feed(agent_at(g.head), WorkersExited{InstanceId{key.first}, key.second, g.epoch, Cause::device_lost, 0});
      }
    });
    at(repaired, [this, node] { broken_.erase(node); });
  } else {
    at(when, [this, router] { crash(router_at(router)); });
    at(repaired, [this, router] {
      if (!entities_.at(router_at(router)).alive) restart(router_at(router));
    });
  }
}

// ---- the run --------------------------------------------------------------------------------------------------------

/// What is left over when nothing more happens.
std::string RandomWorld::settled() const {
  const auto expected = static_cast<std::size_t>(options_.requests) * 2;
  if (ended_.size() != expected) return fmt::format("{} of {} requests ended", ended_.size(), expected);
  int leaderless = 0;
  for (const auto& [a, e] : entities_) {
    if (!e.alive && a.role == Role::instance &&
        (options_.scaling || options_.policy == RecoveryAction::spare_instance)) {
      // An instance that is scaled down, or a cold spare, has no leader to miss; it gets one with its workers.
      const bool cold = std::none_of(groups_.begin(), groups_.end(),
                                     [&](const auto& g) { return g.first.first == a.index && g.second.workers; });
      if (cold && ++leaderless <= (options_.scaling ? 2 : 1)) continue;
    }
    if (!e.alive) return fmt::format("{}/{} never came back", static_cast<int>(a.role), a.index);
    if (a.role == Role::router && static_cast<const Router&>(*e.controller).in_flight() > 0)
      return fmt::format("router {} holds requests", a.index);
    if (a.role == Role::instance) {
      const std::size_t live = static_cast<const InstanceController&>(*e.controller).live();
      if (live > 0) return fmt::format("instance {} holds {} requests", a.index, live);
    }
  }
  if (!options_.scaling && options_.policy != RecoveryAction::spare_instance) {
    for (const auto& [key, g] : groups_) {
      if (!g.workers || g.failed) return fmt::format("group {} of instance {} is not up", key.second, key.first);
      if (g.role != GroupRole::as_set_up)
        return fmt::format("group {} of instance {} still stands in for another role", key.second, key.first);
      if (!g.absent.empty())
        return fmt::format("group {} of instance {} is still without {} of its ranks", key.second, key.first,
                           g.absent.size());
    }
  }
  return {};
}

std::string RandomWorld::run() {
  for (const auto& [a, e] : entities_) feed(a, Started{});
  for (int k = 0; k < 16; ++k) plan_fault(k);
  Random crashes(options_.seed, "test/fleet manager");
  for (int k = 0; k < options_.fleet_crashes; ++k) {
    const Instant when = Instant{0} + Duration{static_cast<std::int64_t>(crashes.below(45'000'000'000))};
    at(when, [this] { crash(kFleetAddress); });
    at(when + Duration{static_cast<std::int64_t>(crashes.below(8'000'000'000))}, [this] {
      if (!entities_.at(kFleetAddress).alive) restart(kFleetAddress);
    });
  }
  for (int r = 0; r < options_.requests; ++r) at(Instant{0} + between(0_s, 40_s), [this, r] { arrive(r); });
  // All is repaired at 60 s at the latest; restarts and their back-off need some of the rest.
  at(Instant{0} + 60_s, [this] { calm_ = true; });
  for (int r = 0; r < options_.requests; ++r) {
    at(Instant{0} + 180_s + between(0_s, 40_s), [this, r] { arrive(options_.requests + r); });
  }
  while (!queue_.empty() && failure_.empty() && queue_.begin()->first.first <= Instant{0} + 300_s) {
    auto next = queue_.extract(queue_.begin());
    now_ = next.key().first;
    next.mapped()();
  }
  return failure_.empty() ? settled() : failure_;
}

}  // namespace faultline::control::testing
