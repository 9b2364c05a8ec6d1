#include "backend/driver/observe.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>

#include "core/record/codec.h"
#include "core/record/event_log.h"
#include "core/record/observer.h"

namespace faultline::live {
namespace {

using record::kNoFault;

class Fold {
 public:
  Fold(const experiment::ExperimentSpec& spec, const experiment::Deployment& d)
      : d_(d), run_(d.describe_run(spec)), observer_(run_, d.instances.size()) {
    for (const auto& f : d.faults) {
      record::FaultRecord r;
      r.id = f.name;
      r.kind = std::string(name_of(f.kind));
      r.target = f.target;
      run_.faults.push_back(std::move(r));
    }
    for (std::uint32_t i = 0; i < d.instances.size(); ++i) {
      leader_node_.push_back(d.fleet.instances[i].leader_node);
      for (const auto& s : d.instances[i].groups) {
        Group g;
        g.instance = i;
        g.nodes = s.nodes;
        g.role = s.role;
        g.per_node = static_cast<std::uint32_t>(s.ranks) *
                     static_cast<std::uint32_t>(d.group_roles[groups_.size() % d.group_roles.size()]->plan.tp) /
                     static_cast<std::uint32_t>(s.nodes.size());
        g.workers = d.instances[i].up;
        groups_.push_back(std::move(g));
      }
    }
  }

  record::RunRecord run(const LiveRun& live, const std::vector<NamedLog>& logs) {
    read(logs);
    for (std::uint32_t k = 0; k < live.arrivals.size(); ++k) order_.push_back({live.arrivals[k].at, Kind::arrival, k});
    for (std::uint32_t k = 0; k < live.changes.size(); ++k) order_.push_back({live.changes[k].at, Kind::change, k});
    for (std::uint32_t k = 0; k < live.lost.size(); ++k) order_.push_back({live.lost[k].at, Kind::lost, k});
    for (std::uint32_t k = 0; k < records_.size(); ++k) order_.push_back({records_[k].at, Kind::record, k});
    std::stable_sort(order_.begin(), order_.end(), [](const Item& a, const Item& b) { return a.at < b.at; });
    for (const Item& item : order_) {
      now_ = item.at;
      switch (item.kind) {
        case Kind::arrival: {
          const auto& a = live.arrivals[item.index].request;
          observer_.arrived(now_, a.request, a.prompt, a.output, a.slo_class);
          break;
        }
        case Kind::change: change(live.changes[item.index]); break;
        case Kind::lost: observer_.router_lost(now_, live.lost[item.index].request); break;
        case Kind::record: step(records_[item.index]); break;
      }
    }
    finish(live);
    return std::move(run_);
  }

 private:
  enum class Kind : std::uint8_t { arrival, change, lost, record };
  struct Item {
    Instant at;
    Kind kind;
    std::uint32_t index;
  };
  struct Group {
    std::uint32_t instance = 0, per_node = 0;
    control::GroupRole role{};
    std::vector<std::uint32_t> nodes;
    bool workers = true, stalled = false;
    std::uint32_t busy = 0;
    std::uint32_t blame = kNoFault;
    double usable = 1;
    Instant usable_since{0};
  };
  struct Op {
    std::uint32_t group = 0;  // index in groups_
    Instant began{0};
    std::int64_t sequences = 0, prefill = 0;
    bool decode = false;
  };

  void read(const std::vector<NamedLog>& logs) {
    for (const NamedLog& log : logs) {
      try {
        record::EventLogReader in(log.bytes);
        record::LogRecord r;
        while (in.next(r)) records_.push_back(r);
      } catch (const record::CodecError& e) {
        run_.warnings.push_back(fmt::format("{}: {}", log.name, e.what()));
      }
    }
  }
  Group& group(std::uint32_t instance, std::uint32_t g) { return groups_[instance * d_.group_roles.size() + g]; }

  // ---- controllers ----
  void step(const record::LogRecord& r) {
    if (r.who.role == Role::node) agent_heard(r);
    for (const control::Command& c : r.commands) {
      if (const auto* lost = std::get_if<control::NoteAttemptLost>(&c)) attempt_lost(*lost);
      if (const auto* cache = std::get_if<control::NotePrefixCache>(&c)) cache_lost(*cache);
      observer_.note(now_, c);
      if (r.who.role == Role::node) agent_did(r.who.index, c);
    }
  }
  void cache_lost(const control::NotePrefixCache& cache) {
    const std::uint32_t blamed = observer_.fault_of(cache.instance.v);
    if (blamed != kNoFault) run_.faults[blamed].kv_bytes_lost += (d_.kv_bytes_per_token * cache.lost).v;
  }
  void attempt_lost(const control::NoteAttemptLost& lost) {
    const std::uint32_t blamed = observer_.fault_of(lost.instance.v);
    if (blamed != kNoFault)
      run_.faults[blamed].kv_bytes_lost += (d_.kv_bytes_per_token * (std::int64_t{lost.prefilled} + lost.produced)).v;
  }
  void agent_did(std::uint32_t node, const control::Command& c) {
    if (const auto* s = std::get_if<control::SubmitStep>(&c)) {
      Op op;
      op.group = static_cast<std::uint32_t>(s->instance.v * d_.group_roles.size() + s->step.group);
      op.began = now_;
      op.decode = s->step.items.empty();
      for (const auto& l : s->step.loads) op.sequences += l.sequences;
      for (const auto& i : s->step.items) op.prefill += i.chunk_tokens;
      ++groups_[op.group].busy;
      ops_[{node, s->step.op}] = op;
    } else if (const auto* kill = std::get_if<control::KillGroup>(&c)) {
      down(group(kill->instance.v, kill->group));
    } else if (const auto* launch = std::get_if<control::LaunchGroup>(&c)) {
      down(group(launch->start.instance.v, launch->start.group));
      starts_[{launch->start.instance.v, launch->start.group}] = launch->start;
    } else if (const auto* write = std::get_if<control::PostWrite>(&c)) {
      writes_[{node, write->op}] = write->instance.v;
    }
  }
  void agent_heard(const record::LogRecord& r) {
    if (const auto* ended = std::get_if<control::StepEnded>(&r.event)) {
      const auto it = ops_.find({r.who.index, ended->op});
      if (it == ops_.end()) return;
      const Op op = it->second;
      ops_.erase(it);
      Group& g = groups_[op.group];
      g.busy = 0;
      const bool whole = ended->cause == Cause::none;
      const std::int64_t output = op.decode ? ended->steps * op.sequences : whole ? op.sequences : 0;
      if (op.decode) run_.stats.decode_steps += static_cast<std::uint64_t>(ended->steps);
      if (output > 0 || (whole && op.prefill > 0)) observer_.tokens(op.began, now_, output, whole ? op.prefill : 0);
      if (whole) return;
      observer_.symptom(now_, g.instance);
      if (ended->cause != Cause::canceled) down(g);
    } else if (const auto* exited = std::get_if<control::WorkersExited>(&r.event)) {
      observer_.symptom(now_, exited->instance.v);
      down(group(exited->instance.v, exited->group));
    } else if (const auto* written = std::get_if<control::WriteEnded>(&r.event)) {
      const auto it = writes_.find({r.who.index, written->op});
      if (it == writes_.end()) return;
      if (written->cause != Cause::none && written->cause != Cause::canceled) observer_.symptom(now_, it->second);
      writes_.erase(it);
    } else if (const auto* launched = std::get_if<control::LaunchEnded>(&r.event);
               launched != nullptr && launched->cause == Cause::none) {
      const auto start = starts_.find({launched->instance.v, launched->group});
      if (start == starts_.end()) return;
      Group& g = group(launched->instance.v, launched->group);
      set_usable(g, 1);  // the interval of the old nodes ends here
      g.nodes = start->second.nodes;
      g.workers = true;
      g.stalled = false;
      leader_node_[launched->instance.v] = start->second.leader_node;
      account(launched->instance.v);
    }
  }
  void down(Group& g) {
    g.workers = false;
    g.busy = 0;
    account(g.instance);
  }

  // ---- truth ----
  void change(const LiveRun::FaultChange& c) {
    const fault::ScheduledFault& f = d_.faults[c.fault];
    record::FaultRecord& r = run_.faults[c.fault];
    if (c.active && r.at == kNever) {
      r.at = now_;
      r.applied = true;
      r.reverted = f.revert_at(now_);
    }
    if (c.cause != Cause::none) {
      r.applied = false;
      r.not_applied_reason = std::string(name_of(c.cause));
      return;
    }
    if (!c.active) {
      if (f.kind == fault::FaultKind::gpu_hang) hang_over(f);
      return;
    }
    touch(c.fault);
    if (f.kind == fault::FaultKind::node_crash) leaders_lost(d_.topology.node_of(f.component).v);
  }
  std::vector<NodeId> nodes_of(ComponentId component) const {
    std::vector<NodeId> nodes;
    for (const ComponentId c : d_.topology.graph.implied(component)) {
      if (const NodeId n = d_.topology.node_of(c); n.valid()) nodes.push_back(n);
    }
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    return nodes;
  }
  /// Blames a fault for what happens next on every instance that uses something it disabled (as
  /// sim/driver/world_faults.cpp).
  void touch(std::uint32_t fault) {
    const fault::ScheduledFault& f = d_.faults[fault];
    record::FaultRecord& r = run_.faults[fault];
    const auto implied = d_.topology.graph.implied(f.component);
    r.targeted_components = static_cast<std::uint32_t>(implied.size());
    for (const ComponentId c : implied) {
      if (d_.topology.graph[c].kind == topology::Kind::gpu) r.own_gpus.push_back(c);
    }
    if (f.kind == fault::FaultKind::gpu_hang) r.own_gpus = {f.component};
    std::sort(r.own_gpus.begin(), r.own_gpus.end());
    const auto nodes = nodes_of(f.component);
    const auto gpu = d_.topology.gpu_of(f.component);
    for (Group& g : groups_) {
      const bool member = std::any_of(g.nodes.begin(), g.nodes.end(), [&](std::uint32_t n) {
        return std::binary_search(nodes.begin(), nodes.end(), NodeId{n});
      });
      if (!member) continue;
      for (std::size_t k = 0; k < d_.group_roles.size(); ++k)
        group(g.instance, static_cast<std::uint32_t>(k)).blame = fault;
      observer_.touch(now_, g.instance, fault);
      if (gpu && gpu->gpu >= g.per_node) continue;
      g.stalled = true;
      if (g.busy > 0) observer_.hit_all(g.instance, fault);
    }
    for (std::uint32_t i = 0; i < d_.instances.size(); ++i) account(i);
  }
  void hang_over(const fault::ScheduledFault& f) {
    const auto nodes = nodes_of(f.component);
    for (Group& g : groups_) {
      const bool member =
          std::any_of(g.nodes.begin(), g.nodes.end(), [&](std::uint32_t n) { return NodeId{n} == nodes.front(); });
      if (member && g.workers) g.stalled = false;
      account(g.instance);
    }
  }
  /// What a leader held when its node died: its log tells, replayed.
  void leaders_lost(std::uint32_t node) {
    for (std::uint32_t i = 0; i < leader_node_.size(); ++i) {
      if (leader_node_[i] != node) continue;
      for (const auto& note : held_by(i, now_)) {
        attempt_lost(std::get<control::NoteAttemptLost>(note));
        observer_.note(now_, note);
      }
    }
  }
  control::Commands held_by(std::uint32_t instance, Instant until) const {
    std::unique_ptr<control::InstanceController> leader;
    std::uint32_t incarnation = 0;
    control::Commands ignored, notes;
    for (const auto& r : records_) {
      if (r.who != Address{Role::instance, instance} || r.at > until) continue;
      if (!leader || r.incarnation != incarnation) {
        incarnation = r.incarnation;
        control::InstanceSetup setup = d_.instances[instance];
        if (incarnation > 0) setup.up = false;
        leader = std::make_unique<control::InstanceController>(std::move(setup));
      }
      ignored.clear();
      leader->step(r.at, r.event, ignored);
    }
    if (leader) leader->account_loss({}, notes);
    return notes;
  }

  // ---- accounting ----
  double usable_of(const Group& g) const {
    if (!g.workers || g.stalled) return 0;
    bool prefill = false, decode = false;
    for (const Group& x : groups_) {
      if (x.instance != g.instance || !x.workers || x.stalled) continue;
      prefill |= x.role != control::GroupRole::decode;
      decode |= x.role != control::GroupRole::prefill;
    }
    return prefill && decode ? 1 : 0;
  }
  void account(std::uint32_t instance) {
    for (std::uint32_t k = 0; k < d_.group_roles.size(); ++k)
      set_usable(group(instance, k), usable_of(group(instance, k)));
  }
  void set_usable(Group& g, double usable) {
    if (usable == g.usable) return;
    if (g.usable < 1 && d_.instances[g.instance].up && g.blame != kNoFault && now_ > g.usable_since) {
      const auto& own = run_.faults[g.blame].own_gpus;
      for (const std::uint32_t n : g.nodes) {
        for (std::uint32_t k = 0; k < g.per_node; ++k) {
          const ComponentId gpu = d_.topology.gpu({NodeId{n}, k});
          run_.capacity.push_back({gpu, InstanceId{g.instance}, g.usable_since, now_, g.usable,
                                   std::binary_search(own.begin(), own.end(), gpu), g.blame});
        }
      }
    }
    g.usable = usable;
    g.usable_since = now_;
  }

  void finish(const LiveRun& live) {
    now_ = std::max(now_, live.end);
    run_.end = live.end;
    if (observer_.unfinished() > 0) {
      for (std::uint32_t i = 0; i < leader_node_.size(); ++i) {
        for (const auto& note : held_by(i, now_)) {
          const auto& n = std::get<control::NoteAttemptLost>(note);
          observer_.unfinished_progress(n.request, n.produced);
        }
      }
    }
    for (Group& g : groups_) set_usable(g, 1);
    std::sort(run_.capacity.begin(), run_.capacity.end(), [](const auto& a, const auto& b) {
      return std::pair{a.gpu, a.from} < std::pair{b.gpu, b.from};
    });
    run_.stats.wall_s = live.wall_s;
    run_.stats.cpu_s = live.cpu_s;
    run_.stats.events = run_.stats.controller_steps = records_.size();
    run_.stats.fidelity = "live";
    if (live.interrupted) run_.warnings.push_back("interrupted: the run was stopped before its end");
    if (live.exchanges_wrong > 0)
      run_.warnings.push_back(fmt::format("{} exchanges gave wrong sums", live.exchanges_wrong));
    if (live.kv_wrong > 0) run_.warnings.push_back(fmt::format("{} KV hand-offs arrived damaged", live.kv_wrong));
  }

  const experiment::Deployment& d_;
  record::RunRecord run_;
  record::Observer observer_;
  std::vector<record::LogRecord> records_;
  std::vector<Item> order_;
  std::vector<Group> groups_;
  std::vector<std::uint32_t> leader_node_;
  std::map<std::pair<std::uint32_t, OpId>, Op> ops_;
  std::map<std::pair<std::uint32_t, OpId>, std::uint32_t> writes_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, control::StartGroup> starts_;
  Instant now_{0};
};

}  // namespace

std::vector<NamedLog> read_logs(const std::string& out) {
  std::vector<NamedLog> logs;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(out + "/logs", error)) {
    if (entry.path().extension() != ".flog") continue;
    std::ifstream in(entry.path(), std::ios::binary);
    logs.push_back({entry.path().filename().string(), std::string(std::istreambuf_iterator<char>(in), {})});
  }
  if (logs.empty()) throw std::runtime_error(out + "/logs holds no logs");
  std::sort(logs.begin(), logs.end(), [](const NamedLog& a, const NamedLog& b) { return a.name < b.name; });
  return logs;
}

record::RunRecord observe(const experiment::ExperimentSpec& spec, const experiment::Deployment& deployment,
                          const LiveRun& live, const std::vector<NamedLog>& logs) {
  return Fold(spec, deployment).run(live, logs);
}

}  // namespace faultline::live
