#include "sim/driver/world.h"

#include <algorithm>

#include "core/base/assert.h"
#include "core/base/random.h"
#include "core/control/group_gpus.h"
#include "core/experiment/deployment.h"
#include "core/experiment/request_of.h"

namespace faultline::sim {

using control::PeerChanged;

namespace {

constexpr std::uint32_t kBackground = ~std::uint32_t{0};  // in place of a fault's number

ports::MessageNetSettings message_settings(const WorldSetup& setup) {
  const control::DetectorSpec& d = setup.fleet.detector;
  return {.latency = setup.timing.control_latency,
          .heartbeat = d.heartbeat_period,
          .suspected_after = std::max(1, d.heartbeats_missed - 1),
          .lost_after = d.heartbeats_missed,
          .seed = setup.seed};
}

/// Events after which a leader forgets sequences without having heard how far they are.
bool may_lose(const control::Event& event) {
  if (const auto* peer = std::get_if<PeerChanged>(&event)) return peer->to == PeerChanged::To::lost;
  const auto* received = std::get_if<control::Received>(&event);
  return received != nullptr && (std::get_if<control::FenceGroups>(&received->message) != nullptr ||
                                 std::get_if<control::GroupReady>(&received->message) != nullptr);
}

}  // namespace

World::World(WorldSetup setup, record::RunRecord& run)
    : setup_(std::move(setup)),
      run_(run),
      observer_(run, setup_.instances.size()),
      truth_(*setup_.topology),
      paths_(*setup_.topology),
      whole_links_(setup_.topology->graph.directed_link_count()),
      shared_links_(whole_links_),
      messages_(*this, message_settings(setup_)) {
  const topology::Topology& topology = *setup_.topology;
  const auto& placement = *setup_.placement;
  for (const auto& f : setup_.faults) {
    record::FaultRecord r;
    r.id = f.name;
    r.kind = std::string(name_of(f.kind));
    r.target = f.target;
    run_.faults.push_back(std::move(r));
  }
  active_.resize(setup_.faults.size());
  powered_off_.resize(setup_.faults.size());

  // Entities in the order routers, fleet manager, instance leaders, node agents.
  const auto router_count = static_cast<std::uint32_t>(placement.routers.size());
  std::vector<bool> accepting;
  for (const auto& i : setup_.fleet.instances) accepting.push_back(i.serving);
  setup_.router.accepting = accepting;
  for (std::uint32_t r = 0; r < router_count; ++r) {
    control::RouterSetup s = setup_.router;
    s.index = r;
    add_entity({Role::router, r}, std::make_unique<control::Router>(s), placement.routers[r]);
  }
  fleet_ = static_cast<std::uint32_t>(entities_.size());
  add_entity({Role::fleet, 0}, std::make_unique<control::FleetManager>(setup_.fleet), placement.routers[0]);
  first_instance_ = static_cast<std::uint32_t>(entities_.size());
  for (std::uint32_t i = 0; i < setup_.instances.size(); ++i) {
    add_entity({Role::instance, i}, make_instance(i, setup_.instances[i].up),
               topology.node(NodeId{setup_.fleet.instances[i].leader_node}));
  }
  first_node_ = static_cast<std::uint32_t>(entities_.size());
  for (std::uint32_t n = 0; n < topology.layout.nodes; ++n) {
    control::NodeAgentSetup s = setup_.agent;
    s.node = n;
    add_entity({Role::node, n}, std::make_unique<control::NodeAgent>(s), topology.node(NodeId{n}));
  }

  std::vector<std::uint32_t> first_shape;  // by fleet
  for (const auto& fleet : setup_.fleets) {
    first_shape.push_back(static_cast<std::uint32_t>(shapes_.size()));
    for (const auto& shape : fleet) {
      shapes_.push_back(&shape);
      samples_.emplace_back(*shape.pricer, static_cast<double>(std::size_t{shape.gpus_per_rank} *
                                                               static_cast<std::size_t>(shape.pricer->ranks())));
    }
  }
  for (const auto& i : setup_.fleet.instances) counted_.push_back(i.serving);
  groups_on_node_.resize(topology.layout.nodes);
  for (std::uint32_t i = 0; i < setup_.instances.size(); ++i) {
    first_group_.push_back(static_cast<std::uint32_t>(groups_.size()));
    for (std::uint32_t k = 0; k < setup_.fleets[fleet_of(i)].size(); ++k) {
      const control::GroupSetup& s = setup_.instances[i].groups[k];
      Group g;
      g.shape = first_shape[fleet_of(i)] + k;
      g.exec = std::make_unique<GroupExecutor>(*shape_of(g).pricer);
      g.exec->count_in(samples_[g.shape]);
      g.nodes = s.nodes;
      g.instance = i;
      g.index = k;
      g.number = static_cast<std::uint32_t>(groups_.size());
      g.role = s.role;
      g.ranks = static_cast<std::uint32_t>(s.ranks);
      g.gpus_per_rank = shape_of(g).gpus_per_rank;
      g.first_gpu = control::first_gpu(setup_.instances[i].groups, k);
      g.workers = setup_.instances[i].up;
      g.head = g.nodes.front();
      if (const auto* experts = shape_of(g).experts) {
        g.placement =
            std::shared_ptr<const model::ExpertPlacement>(std::shared_ptr<const void>(), &experts->initial().placement);
      }
      for (const std::uint32_t n : g.nodes) groups_on_node_[n].push_back(g.number);
      groups_.push_back(std::move(g));
    }
  }
  first_group_.push_back(static_cast<std::uint32_t>(groups_.size()));
  for (const auto& b : setup_.background) {
    truth_.set_link_factor(b.link, kBackground, b.left);
    for (const topology::LinkIndex l : topology.graph.links_of(b.link)) shared_links_.set_factor(l, b.left);
  }
  for (Group& g : groups_) measure_paths(g);
  const bool any_transfer = std::any_of(setup_.instances.begin(), setup_.instances.end(), [](const auto& i) {
    return std::any_of(i.groups.begin(), i.groups.end(),
                       [](const auto& g) { return g.role == control::GroupRole::prefill; });
  });
  if (any_transfer) {
    net_ = FlowNet::open(paths_.capacity());
    writes_.emplace(static_cast<WriteEngine::Owner&>(*this), *net_, paths_, truth_.links(),
                    setup_.retransmission_budget);
  }
  for (const auto* shape : shapes_) {  // one clock for all groups: popularity belongs to the load
    if (shape->experts == nullptr) continue;
    if (const Duration d = shape->experts->popularity_spec().drift_period; d.v > 0)
      queue_.push(now_ + d, kExpertDrift, 0, 0);
    if (const Duration d = shape->experts->balance().rebalance_period; d.v > 0) queue_.push(now_ + d, kRebalance, 0, 0);
    break;
  }
  for (std::uint32_t f = 0; f < setup_.faults.size(); ++f) {
    if (const auto* at = std::get_if<Instant>(&setup_.faults[f].trigger)) {
      queue_.push(*at, kTransition, f, 1);
    } else {
      after_.push_back({f});
    }
  }
}

World::~World() = default;

void World::add_entity(Address a, std::unique_ptr<control::Controller> c, ComponentId host) {
  Entity e;
  e.address = a;
  e.controller = std::move(c);
  e.host = host;
  entities_.push_back(std::move(e));
  messages_.add(host.v, true);
}

std::unique_ptr<control::Controller> World::make_instance(std::uint32_t i, bool up) const {
  control::InstanceSetup s = setup_.instances[i];
  s.up = up;
  // Where its groups run now it hears with GroupReady: its start must not depend on what it was not told (strict
  // replay).
  return std::make_unique<control::InstanceController>(std::move(s));
}

std::uint32_t World::entity_of(Address a) const {
  switch (a.role) {
    case Role::router: return routers_ + a.index;
    case Role::fleet: return fleet_;
    case Role::instance: return first_instance_ + a.index;
    case Role::node: return first_node_ + a.index;
    case Role::client: break;
  }
  FAULTLINE_ASSERT(false, "no entity for role {}", static_cast<int>(a.role));
  return 0;
}

void World::run() {
  if (!setup_.background.empty()) {
    refresh_all();
    if (net_) set_capacities();
  }
  for (std::uint32_t e = 0; e < entities_.size(); ++e) start_entity(e);
  drain_local();
  next_arrival();
  if (net_) {
    net_->run([this] { return stop_ || queue_.empty() ? kNever : queue_.top().at; },
              [this](Instant t) { handle_until(t); },
              [this](Instant t, std::span<const FlowId> flows) { flows_done(t, flows); });
  } else {
    while (!stop_ && !queue_.empty()) handle_until(queue_.top().at);
  }
  if (setup_.log) setup_.log->finish();
  // Close what is open: GPUs that did not come back stay lost to the end.
  run_.end = now_;
  if (observer_.unfinished() > 0) {
    for (std::uint32_t i = 0; i < setup_.instances.size(); ++i) {
      if (!alive(first_instance_ + i)) continue;
      for (const auto& note : held_by(i)) {
        const auto& n = std::get<control::NoteAttemptLost>(note);
        observer_.unfinished_progress(n.request, n.produced);
      }
    }
  }
  for (Group& g : groups_) {  // what runs in flight have brought so far
    if (!g.exec->busy()) continue;
    const GroupExecutor::Ended ended = g.exec->finish(now_);
    if (ended.output_tokens > 0) observer_.tokens(ended.began, now_, ended.output_tokens, 0);
  }
  for (Group& g : groups_) set_usable(g, 1, true);
  std::sort(run_.capacity.begin(), run_.capacity.end(), [](const auto& a, const auto& b) {
    return std::pair{a.gpu, a.from} < std::pair{b.gpu, b.from};
  });
  run_.stats.events = events_;
  run_.stats.flows = net_ ? net_->started() : 0;
  run_.stats.controller_steps = steps_;
  for (const Group& g : groups_) run_.stats.decode_steps += g.exec->steps_total();
  run_.stats.fidelity = "step";
  model::OpShares shares;
  for (const model::StepSamples& s : samples_) s.append_to(shares);
  run_.cost_model.extrapolated = experiment::extrapolated_in(shares);
  run_.stats.log_hash = setup_.log ? setup_.log->hash() : 0;
  if (interrupted_) run_.warnings.push_back("interrupted: the run was stopped before its end");
}

bool World::finished() const { return !more_arrivals_ && observer_.unfinished() == 0; }

void World::handle_until(Instant t) {
  while (!stop_ && !queue_.empty() && queue_.top().at <= t) {
    const QueuedEvent e = queue_.pop();
    FAULTLINE_ASSERT(e.at >= now_, "event at {} after {}", e.at.ns, now_.ns);
    if (e.at > setup_.end_limit) {
      now_ = setup_.end_limit;
      stop_ = true;
      return;
    }
    now_ = e.at;
    ++events_;
    handle(e);
    drain_local();
    if ((events_ & 0x3fff) == 0 && setup_.progress &&
        !setup_.progress(now_, run_.requests.size() - observer_.unfinished())) {
      interrupted_ = stop_ = true;
    }
    if (finished()) stop_ = true;
  }
}

void World::handle(const QueuedEvent& e) {
  switch (static_cast<Kind>(e.kind)) {
    case kMessage: messages_.due(e.index); break;
    case kRequest: {
      const Envelope envelope = std::move(requests_[e.index]);
      free_requests_.push_back(e.index);
      // To a process that has died since, its client's connection is reset (kRouterNotice).
      if (alive(envelope.to) && incarnation(envelope.to) == envelope.incarnation) dispatch(envelope.to, envelope.event);
      break;
    }
    case kTimer: {
      Entity& entity = entities_[e.index];
      for (std::size_t k = 0; k < entity.timers.size(); ++k) {
        if (entity.timers[k].generation != e.token) continue;
        const TimerKey key = entity.timers[k].key;
        entity.timers.erase(entity.timers.begin() + static_cast<std::ptrdiff_t>(k));
        if (alive(e.index)) dispatch(e.index, control::TimerFired{key});
        break;
      }
      break;
    }
    case kGroupEnd: group_end(e.index, e.token); break;
    case kGroupFail: group_fail(e.index, e.token); break;
    case kArrival: arrive(); break;
    case kTransition: transition(e.index, e.token != 0); break;
    case kLaunch: launch_step(e.index); break;
    case kPowerOff:
      if (e.token == 0) power_off(e.index);
      else tell_operator_plan(setup_.faults[e.index], false);
      break;
    case kProbe: {
      const Probe& p = probes_[e.index];
      if (!alive(p.agent) || incarnation(p.agent) != p.incarnation) break;
      const std::uint32_t n = entities_[p.agent].address.index;
      control::ProbeEnded ended{.token = p.token};
      for (std::uint32_t g = 0; g < setup_.topology->layout.gpus; ++g) {
        const ComponentId gpu = setup_.topology->gpu({NodeId{n}, g});
        if (truth_.down(gpu) || truth_.hung(gpu)) ended.bad_gpus |= 1U << g;
        bool lit = setup_.topology->spec.node.nic_failover;
        const std::uint32_t rail = setup_.topology->layout.rail_of(g);
        for (std::uint32_t port = 0; port < setup_.topology->layout.ports && !lit; ++port) {
          lit = truth_.links().up(setup_.topology->layout.cable(NodeId{n}, rail, port));
        }
        if (!lit) ended.cut_gpus |= 1U << g;
      }
      for (std::uint32_t k = 0; k < setup_.topology->layout.nics; ++k) {
        if (truth_.down(setup_.topology->nic(NodeId{n}, k))) ended.network_ok = false;
        bool any = false;
        for (std::uint32_t port = 0; port < setup_.topology->layout.ports; ++port) {
          any |= truth_.port_up(setup_.topology->layout.cable(NodeId{n}, k, port));
        }
        if (!any && !setup_.topology->spec.node.nic_failover) ended.network_ok = false;
      }
      if (setup_.fleet.detector.false_positives > 0 && ended.bad_gpus == 0 && ended.network_ok &&
          Random(setup_.seed, "probe/false", n, p.token).chance(setup_.fleet.detector.false_positives)) {
        ended.bad_gpus = 1;
      }
      dispatch(p.agent, ended);
      break;
    }
    case kExpertDrift: expert_drift(); break;
    case kRebalance: rebalance(); break;
    case kRebalanced: rebalanced(e.index, e.token); break;
    case kTransferStart:
      if (transfers_[e.index].live && transfers_[e.index].generation == e.token) start_flow(e.index);
      break;
    case kTransferDone:
      if (transfers_[e.index].live && transfers_[e.index].generation == e.token) end_transfer(e.index, Cause::none);
      break;
    case kTransferCanceled:
      if (transfers_[e.index].live && transfers_[e.index].generation == e.token) end_transfer(e.index, Cause::canceled);
      break;
    case kWriteGivesUp: writes_->due(e.index, e.token); break;
    case kRouterBack:
      if (!alive(e.index) && !truth_.down(entities_[e.index].host)) restart(e.index);
      break;
    case kRouterNotice: {
      // Clients of a dead router see their connections reset.
      std::vector<RequestId> mine;
      for (const RequestId id : observer_.active()) {
        const auto it = router_of_.find(id);
        if (it != router_of_.end() && it->second.router == e.index && it->second.incarnation == e.token)
          mine.push_back(id);
      }
      std::sort(mine.begin(), mine.end());
      for (const RequestId id : mine) {
        observer_.router_lost(now_, id);
        router_of_.erase(id);
      }
      break;
    }
  }
}

// ---- processes ------------------------------------------------------------------------------------------------------

void World::start_entity(std::uint32_t e) { post_local(e, control::Started{}); }

void World::restart(std::uint32_t index) {
  Entity& e = entities_[index];
  messages_.restart(index);
  const std::uint32_t i = e.address.index;
  switch (e.address.role) {
    case Role::router: {
      control::RouterSetup s = setup_.router;
      s.index = i;
      e.controller = std::make_unique<control::Router>(s);
      break;
    }
    case Role::fleet: {
      control::FleetSetup s = setup_.fleet;
      s.term = incarnation(index);
      e.controller = std::make_unique<control::FleetManager>(std::move(s));
      break;
    }
    case Role::instance: e.controller = make_instance(i, false); break;
    case Role::node: {
      control::NodeAgentSetup s = setup_.agent;
      s.node = i;
      e.controller = std::make_unique<control::NodeAgent>(s);
      break;
    }
    case Role::client: break;
  }
  post_local(index, control::Started{});
  for (std::uint32_t f = 0; index == fleet_ && f < setup_.faults.size(); ++f) {  // the operator's plans outlive it
    if (setup_.faults[f].kind == fault::FaultKind::node_maintenance && active_[f])
      tell_operator_plan(setup_.faults[f], true);
  }
}

// ---- messages and commands ------------------------------------------------------------------------------------------

void World::post_local(std::uint32_t to, control::Event event) { local_.push_back({to, std::move(event)}); }

void World::received(ports::Member to, ports::Member from, control::Message&& message) {
  post_local(to, control::Received{entities_[from].address, std::move(message)});
}

void World::changed(ports::Member watcher, ports::Member peer, ports::PeerChange to, Cause cause) {
  const PeerChanged::To change = to == ports::PeerChange::suspected ? PeerChanged::To::suspected
                                 : to == ports::PeerChange::lost    ? PeerChanged::To::lost
                                                                    : PeerChanged::To::back;
  post_local(watcher, PeerChanged{entities_[peer].address, change, cause});
}

void World::drain_local() {
  while (!local_.empty()) {
    Envelope envelope = std::move(local_.front());
    local_.pop_front();
    if (alive(envelope.to)) dispatch(envelope.to, envelope.event);
  }
}

void World::dispatch(std::uint32_t index, const control::Event& event) {
  Entity& e = entities_[index];
  commands_.clear();
  if (e.address.role == Role::instance && may_lose(event)) step_that_may_lose(index, event);
  else e.controller->step(now_, event, commands_);
  ++steps_;
  const std::uint64_t digest = e.controller->digest();
  if (setup_.check_every_step) {
    FAULTLINE_ASSERT(digest == e.controller->full_digest(), "role={} index={}", static_cast<int>(e.address.role),
                     e.address.index);
    e.controller->check();
  }
  if (setup_.log) setup_.log->append(now_, e.address, incarnation(index), event, commands_, digest);
  if (!corrected_.empty()) correct_losses();
  for (control::Command& c : commands_) execute(index, c);
}

void World::execute(std::uint32_t index, control::Command& command) {
  Entity& e = entities_[index];
  std::visit(
      [&](auto& c) {
        using C = std::decay_t<decltype(c)>;
        if constexpr (std::is_same_v<C, control::Send>) {
          if (const auto* update = std::get_if<control::InstanceUpdate>(&c.message)) count_places(*update);
          else if (std::get_if<control::AttemptEnded>(&c.message)) observer_.note(now_, command);
          messages_.send(index, entity_of(c.to), std::move(c.message));
        } else if constexpr (std::is_same_v<C, control::ArmTimer>) {
          const std::uint64_t generation = ++generation_;
          const auto it =
              std::find_if(e.timers.begin(), e.timers.end(), [&](const Timer& t) { return t.key == c.key; });
          if (it != e.timers.end()) it->generation = generation;
          else e.timers.push_back({c.key, generation});
          if (c.deadline != kNever) queue_.push(std::max(now_, c.deadline), kTimer, index, generation);
        } else if constexpr (std::is_same_v<C, control::DisarmTimer>) {
          std::erase_if(e.timers, [&](const Timer& t) { return t.key == c.key; });
        } else if constexpr (std::is_same_v<C, control::Watch>) {
          messages_.watch(index, entity_of(c.peer));
        } else if constexpr (std::is_same_v<C, control::Unwatch>) {
          messages_.unwatch(index, entity_of(c.peer));
        } else if constexpr (std::is_same_v<C, control::SubmitStep>) {
          submit_step(index, c);
        } else if constexpr (std::is_same_v<C, control::InterruptStep>) {
          Group& g = group(c.instance.v, c.group);
          if (g.exec->op() == c.op) {
            g.exec->interrupt(now_, c.op);
            schedule_end(g);
          }
        } else if constexpr (std::is_same_v<C, control::AbortGroup>) {
          Group& g = group(c.instance.v, c.group);
          if (g.exec->busy()) end_step(g, Cause::canceled, control::kUnknownRank);
        } else if constexpr (std::is_same_v<C, control::PostWrite>) {
          post_write(index, c);
        } else if constexpr (std::is_same_v<C, control::CancelWrite>) {
          cancel_write(c.op);
        } else if constexpr (std::is_same_v<C, control::LaunchGroup>) {
          launch(index, c.start);
        } else if constexpr (std::is_same_v<C, control::KillGroup>) {
          kill_group(c.instance.v, c.group, c.epoch);
        } else if constexpr (std::is_same_v<C, control::RunProbe>) {
          probe(index, c);
        } else {
          if constexpr (std::is_same_v<C, control::NoteRequestEnded>) {
            router_of_.erase(c.request);
            if (c.cause == Cause::none) count_event(fault::CausalEvent::request_completed, ~0U);
          }
          if constexpr (std::is_same_v<C, control::NoteAttemptLost>) {
            const std::uint32_t blamed = observer_.fault_of(c.instance.v);
            if (blamed != kNoFault)
              run_.faults[blamed].kv_bytes_lost +=
                  (setup_.instances[c.instance.v].kv_bytes_per_token * (std::int64_t{c.prefilled} + c.produced)).v;
          }
          if constexpr (std::is_same_v<C, control::NotePrefixCache>) {
            const std::uint32_t blamed = observer_.fault_of(c.instance.v);
            if (blamed != kNoFault)
              run_.faults[blamed].kv_bytes_lost += (setup_.instances[c.instance.v].kv_bytes_per_token * c.lost).v;
          }
          if constexpr (std::is_same_v<C, control::NotePhase>) {
            using control::Phase;
            using fault::CausalEvent;
            if (c.phase == Phase::replace && c.node == control::kUnknownRank) to_be_replaced_.push_back(c.instance.v);
            if (c.phase == Phase::detect) count_event(CausalEvent::recovery_detected, c.instance.v);
            else if (c.phase == Phase::decide) count_event(CausalEvent::recovery_decided, c.instance.v);
            else if (c.phase == Phase::drain) count_event(CausalEvent::recovery_drained, c.instance.v);
            else if (c.phase == Phase::reroute) count_event(CausalEvent::recovery_rerouted, c.instance.v);
            else if (c.phase == Phase::ready) count_event(CausalEvent::recovery_ready, c.instance.v);
          }
          observer_.note(now_, command);
        }
      },
      command);
}

// ---- arrivals -------------------------------------------------------------------------------------------------------

void World::next_arrival() {
  more_arrivals_ = setup_.arrivals->next(arrival_);
  if (more_arrivals_) queue_.push(std::max(now_, arrival_.at), kArrival, 0, 0);
  else if (finished()) stop_ = true;
}

void World::arrive() {
  const RequestId id{static_cast<std::uint32_t>(arrivals_++)};
  const auto prompt = static_cast<std::int32_t>(arrival_.prompt.v),
             output = static_cast<std::int32_t>(arrival_.output.v);
  observer_.arrived(now_, id, prompt, output, arrival_.slo_class);
  control::RequestArrived event = experiment::request_of(id, arrival_);
  // Clients spread over the routers that answer.
  std::uint32_t router = ~0U;
  for (std::uint32_t k = 0; k < fleet_; ++k) {
    const std::uint32_t r = (next_router_ + k) % fleet_;
    if (alive(r)) {
      router = r;
      break;
    }
  }
  next_arrival();
  count_event(fault::CausalEvent::request_arrived, ~0U);
  if (router == ~0U) {
    observer_.router_lost(now_, id);
    return;
  }
  next_router_ = (router + 1) % fleet_;
  router_of_.emplace(id, Connection{router, incarnation(router)});
  if (setup_.timing.client_latency.v == 0) return post_local(router, std::move(event));
  std::uint32_t slot = 0;
  if (free_requests_.empty()) {
    slot = static_cast<std::uint32_t>(requests_.size());
    requests_.emplace_back();
  } else {
    slot = free_requests_.back();
    free_requests_.pop_back();
  }
  requests_[slot] = {router, std::move(event), incarnation(router)};
  queue_.push(now_ + setup_.timing.client_latency, kRequest, slot, 0);
}

}  // namespace faultline::sim
