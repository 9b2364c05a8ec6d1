// The FlowNet on SimGrid 3.32.
#include <xbt/log.h>
#include <simgrid/kernel/Timer.hpp>
#include <simgrid/kernel/resource/NetworkModelIntf.hpp>
#include <simgrid/kernel/routing/NetZoneImpl.hpp>
#include <simgrid/s4u.hpp>

#include <signal.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "core/base/assert.h"
#include "sim/engine/flow_net.h"

// Settings (measured with SimGrid 3.32; its defaults model TCP over a wide-area grid):
//  - CM02 without cross traffic and with the TCP window bound out of reach: exact max-min sharing.
//  - CM02 shares inversely to path latency. PathZone gives every flow the same weight and a latency callback puts the
//    true latency back, so that shares are equal and the first byte still waits.
//  - A flow's rate is bounded for its whole life by the narrowest link bandwidth at its start, so a link keeps its
//  nominal
//    bandwidth and the effective one comes from a NONLINEAR sharing callback: recoveries then speed running flows up.
//  - No actors: everything runs in the engine's own context, from timers and completions.

namespace faultline::sim {
namespace {

namespace sg = simgrid::s4u;

class PathZone : public simgrid::kernel::routing::NetZoneImpl {
 public:
  std::vector<simgrid::kernel::resource::StandardLinkImpl*> path;
  explicit PathZone(const std::string& name) : NetZoneImpl(name) {}
  void get_local_route(const simgrid::kernel::routing::NetPoint*, const simgrid::kernel::routing::NetPoint*,
                       simgrid::kernel::routing::Route* route, double* latency) override {
    route->link_list_.insert(route->link_list_.end(), path.begin(), path.end());
    if (latency) *latency += 1.0;  // the weight of the flow, not a time
  }
};

}  // namespace

class SimGridNet final : public FlowNet {
 public:
  explicit SimGridNet(std::span<const BytesPerSecond> capacity);
  ~SimGridNet() override;

  FlowId start(std::span<const topology::LinkIndex> path, Bytes bytes, Duration latency) override;
  void cancel(FlowId id) override;
  Bytes remaining(FlowId id) const override;
  void set_capacity(topology::LinkIndex link, BytesPerSecond effective) override;
  std::uint64_t started() const override { return last_; }
  std::size_t running() const override { return flows_.size(); }
  void run(const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
           const std::function<void(Instant, std::span<const FlowId>)>& done) override;
  void run_until(Instant end, const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
                 const std::function<void(Instant, std::span<const FlowId>)>& done) override;
  void rearm() override { arm(); }

 private:
  struct Link {
    sg::Link* link = nullptr;
    double nominal = 0, effective = 0;
  };
  struct Flow {
    sg::CommPtr comm;
  };
  std::unique_ptr<sg::Engine> engine_;
  PathZone* zone_ = nullptr;
  sg::NetZone* face_ = nullptr;
  sg::Host* from_ = nullptr;
  sg::Host* to_ = nullptr;
  std::vector<Link> links_;
  std::unordered_map<FlowId, Flow> flows_;
  std::vector<FlowId> ended_;
  // The kernel still looks at a canceled or completed flow later in the same turn, and where it was canceled between
  // two runs, in the turn after: it must live until the clock has moved on twice.
  std::vector<std::pair<double, sg::CommPtr>> parked_;
  double turn_ = 0, turn_before_ = 0;
  FlowId last_ = 0;
  double latency_ = 0;
  simgrid::kernel::timer::Timer* armed_ = nullptr;
  double armed_at_ = 0;
  std::function<Instant()> next_;
  std::function<void(Instant)> handle_;
  std::function<void(Instant, std::span<const FlowId>)> done_;

  Instant now() const { return Instant{static_cast<std::int64_t>(std::llround(sg::Engine::get_clock() * 1e9))}; }
  void forget_parked() {
    const double t = sg::Engine::get_clock();
    if (t == turn_) return;
    turn_before_ = turn_;
    turn_ = t;
    std::erase_if(parked_, [this](const auto& c) { return c.first < turn_before_; });
  }
  void deliver_ended() {
    while (!ended_.empty()) {
      std::vector<FlowId> batch;
      batch.swap(ended_);
      std::sort(batch.begin(), batch.end());
      done_(now(), batch);
    }
  }
  void arm() {
    Instant at = ended_.empty() ? next_() : now();
    if (at == kNever) return;
    const double t = std::max(seconds(at), sg::Engine::get_clock());
    if (armed_) {
      if (armed_at_ <= t) return;
      armed_->remove();
    }
    armed_at_ = t;
    armed_ = simgrid::kernel::timer::Timer::set(t, [this] {
      armed_ = nullptr;
      forget_parked();
      deliver_ended();
      // Half a nanosecond: the clock is a double of seconds, ours are whole nanoseconds.
      const double reached = sg::Engine::get_clock() + 0.5e-9;
      for (Instant n = next_(); n != kNever && seconds(n) <= reached; n = next_()) {
        handle_(n);
        deliver_ended();
      }
      arm();
    });
  }
};

SimGridNet::SimGridNet(std::span<const BytesPerSecond> capacity) {
  int argc = 1;
  static char program[] = "faultline", quiet[] = "--log=root.thresh:critical";
  char* argv[] = {program, quiet, nullptr};
  argc = 2;
  // The engine installs a handler that ends the process without its outputs. What came before it is put back, and an
  // interrupt in between waits until then.
  sigset_t only_interrupt, mask;
  sigemptyset(&only_interrupt);
  sigaddset(&only_interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &only_interrupt, &mask);
  struct sigaction interrupt {};
  sigaction(SIGINT, nullptr, &interrupt);
  engine_ = std::make_unique<sg::Engine>(&argc, argv);
  sigaction(SIGINT, &interrupt, nullptr);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  for (const char* setting : {"network/model:CM02", "network/crosstraffic:0", "network/TCP-gamma:1e30"}) {
    sg::Engine::set_config(std::string(setting));
  }
  zone_ = new PathZone("fabric");  // the engine owns it
  face_ = zone_->get_iface();
  from_ = face_->create_host("a", 1e9);
  to_ = face_->create_host("b", 1e9);
  from_->seal();
  to_->seal();
  links_.resize(capacity.size());
  for (std::size_t i = 0; i < capacity.size(); ++i) {
    Link& l = links_[i];
    l.nominal = l.effective = static_cast<double>(capacity[i].v);
    l.link = face_->create_link("l" + std::to_string(i), l.nominal);
    l.link->set_sharing_policy(sg::Link::SharingPolicy::NONLINEAR, [&l](double, int) { return l.effective; });
    l.link->seal();
  }
  face_->seal();
  face_->get_network_model()->set_lat_factor_cb([this](double, const sg::Host*, const sg::Host*,
                                                       const std::vector<sg::Link*>&,
                                                       const std::unordered_set<sg::NetZone*>&) { return latency_; });
  sg::Activity::on_completion_cb([this](const sg::Activity& activity) {
    const auto* comm = dynamic_cast<const sg::Comm*>(&activity);
    if (comm == nullptr) return;
    const auto id = reinterpret_cast<FlowId>(comm->get_data<void>());
    const auto it = flows_.find(id);
    if (it == flows_.end()) return;  // canceled: the kernel reports it twice
    parked_.emplace_back(sg::Engine::get_clock(), std::move(it->second.comm));
    flows_.erase(it);
    ended_.push_back(id);
    arm();
  });
}

SimGridNet::~SimGridNet() {
  // Running flows must not outlive the engine, nor be dropped while it runs: cancel, then forget.
  auto flows = std::move(flows_);
  flows_.clear();
  for (auto& [id, flow] : flows) flow.comm->cancel();
}

FlowId SimGridNet::start(std::span<const topology::LinkIndex> path, Bytes bytes, Duration latency) {
  zone_->path.clear();
  for (const topology::LinkIndex link : path) zone_->path.push_back(links_[link.v].link->get_impl());
  latency_ = seconds(latency);
  const FlowId id = ++last_;
  auto comm = sg::Comm::sendto_init(from_, to_);
  comm->set_data(reinterpret_cast<void*>(id));
  comm->set_payload_size(static_cast<std::uint64_t>(std::max<std::int64_t>(0, bytes.v)));
  flows_.emplace(id, Flow{comm});
  comm->start();
  return id;
}

void SimGridNet::cancel(FlowId id) {
  const auto it = flows_.find(id);
  if (it == flows_.end()) {
    std::erase(ended_, id);
    return;
  }
  const sg::CommPtr comm = it->second.comm;
  flows_.erase(it);  // first: cancel() fires the completion callback
  parked_.emplace_back(sg::Engine::get_clock(), comm);
  comm->cancel();
}

Bytes SimGridNet::remaining(FlowId id) const {
  const auto it = flows_.find(id);
  if (it == flows_.end()) return Bytes{0};
  return Bytes{static_cast<std::int64_t>(std::llround(it->second.comm->get_remaining()))};
}

void SimGridNet::set_capacity(topology::LinkIndex link, BytesPerSecond effective) {
  Link& l = links_[link.v];
  FAULTLINE_ASSERT(effective.v > 0 && static_cast<double>(effective.v) <= l.nominal, "link={} capacity={}", link.v,
                   effective.v);
  if (l.effective == static_cast<double>(effective.v)) return;
  l.effective = static_cast<double>(effective.v);
  l.link->set_bandwidth(l.nominal);  // unchanged, but makes the sharing be solved anew
}

void SimGridNet::run(const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
                     const std::function<void(Instant, std::span<const FlowId>)>& done) {
  next_ = next;
  handle_ = handle;
  done_ = done;
  arm();
  engine_->run();
}

void SimGridNet::run_until(Instant end, const std::function<Instant()>& next,
                           const std::function<void(Instant)>& handle,
                           const std::function<void(Instant, std::span<const FlowId>)>& done) {
  next_ = next;
  handle_ = handle;
  done_ = done;
  arm();
  // A timer of its own, so that time gets there where nothing else is to come; and one turn of the kernel at a time,
  // because run_until() takes a date within 10 us for reached.
  bool reached = false;
  simgrid::kernel::timer::Timer::set(seconds(end), [&reached] { reached = true; });
  while (!reached) engine_->run_until(seconds(end));
}

}  // namespace faultline::sim

extern "C" __attribute__((visibility("default"))) faultline::sim::FlowNet* faultline_open_flow_net(
    std::span<const faultline::BytesPerSecond> capacity) {
  return new faultline::sim::SimGridNet(capacity);
}
