#include "sim/engine/flow_net.h"

#include <simgrid/kernel/Timer.hpp>
#include <simgrid/kernel/resource/NetworkModelIntf.hpp>
#include <simgrid/kernel/routing/NetZoneImpl.hpp>
#include <simgrid/s4u.hpp>
#include <xbt/log.h>

#include <signal.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "core/base/assert.h"

// Settings (measured with SimGrid 3.32; its defaults model TCP over a wide-area grid):
//  - CM02 without cross traffic and with the TCP window bound out of reach: exact max-min sharing.
//  - CM02 shares inversely to path latency. PathZone gives every flow the same weight and a latency callback puts the
//    true latency back, so that shares are equal and the first byte still waits.
//  - A flow's rate is bounded for its whole life by the narrowest link bandwidth at its start, so a link keeps its nominal
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

struct FlowNet::Impl {
  struct Link {
    sg::Link* link = nullptr;
    double nominal = 0, effective = 0;
  };
  struct Flow {
    sg::CommPtr comm;
  };
  std::unique_ptr<sg::Engine> engine;
  PathZone* zone = nullptr;
  sg::NetZone* face = nullptr;
  sg::Host* from = nullptr;
  sg::Host* to = nullptr;
  std::vector<Link> links;
  std::unordered_map<FlowId, Flow> flows;
  std::vector<FlowId> ended;
  // The kernel still looks at a canceled or completed flow later in the same turn: it must live until the clock has moved on.
  std::vector<std::pair<double, sg::CommPtr>> parked;
  FlowId last = 0;
  double latency = 0;
  simgrid::kernel::timer::Timer* armed = nullptr;
  double armed_at = 0;
  std::function<Instant()> next;
  std::function<void(Instant)> handle;
  std::function<void(Instant, std::span<const FlowId>)> done;

  Instant now() const { return Instant{static_cast<std::int64_t>(std::llround(sg::Engine::get_clock() * 1e9))}; }
  void forget_parked() {
    const double t = sg::Engine::get_clock();
    std::erase_if(parked, [t](const auto& c) { return c.first < t; });
  }
  void deliver_ended() {
    while (!ended.empty()) {
      std::vector<FlowId> batch;
      batch.swap(ended);
      std::sort(batch.begin(), batch.end());
      done(now(), batch);
    }
  }
  void arm() {
    Instant at = ended.empty() ? next() : now();
    if (at == kNever) return;
    const double t = std::max(seconds(at), sg::Engine::get_clock());
    if (armed) {
      if (armed_at <= t) return;
      armed->remove();
    }
    armed_at = t;
    armed = simgrid::kernel::timer::Timer::set(t, [this] {
      armed = nullptr;
      forget_parked();
      deliver_ended();
      // Half a nanosecond: the clock is a double of seconds, ours are whole nanoseconds.
      const double reached = sg::Engine::get_clock() + 0.5e-9;
      for (Instant n = next(); n != kNever && seconds(n) <= reached; n = next()) {
        handle(n);
        deliver_ended();
      }
      arm();
    });
  }
};

FlowNet::FlowNet(std::span<const BytesPerSecond> capacity) : impl_(std::make_unique<Impl>()) {
  int argc = 1;
  static char program[] = "faultline", quiet[] = "--log=root.thresh:critical";
  char* argv[] = {program, quiet, nullptr};
  argc = 2;
  Impl& m = *impl_;
  struct sigaction interrupt {};  // the engine's own handler would end the process without its outputs
  sigaction(SIGINT, nullptr, &interrupt);
  m.engine = std::make_unique<sg::Engine>(&argc, argv);
  sigaction(SIGINT, &interrupt, nullptr);
  for (const char* setting : {"network/model:CM02", "network/crosstraffic:0", "network/TCP-gamma:1e30"}) {
    sg::Engine::set_config(std::string(setting));
  }
  m.zone = new PathZone("fabric");  // the engine owns it
  m.face = m.zone->get_iface();
  m.from = m.face->create_host("a", 1e9);
  m.to = m.face->create_host("b", 1e9);
  m.from->seal();
  m.to->seal();
  m.links.resize(capacity.size());
  for (std::size_t i = 0; i < capacity.size(); ++i) {
    Impl::Link& l = m.links[i];
    l.nominal = l.effective = static_cast<double>(capacity[i].v);
    l.link = m.face->create_link("l" + std::to_string(i), l.nominal);
    l.link->set_sharing_policy(sg::Link::SharingPolicy::NONLINEAR, [&l](double, int) { return l.effective; });
    l.link->seal();
  }
  m.face->seal();
  m.face->get_network_model()->set_lat_factor_cb(
      [&m](double, const sg::Host*, const sg::Host*, const std::vector<sg::Link*>&, const std::unordered_set<sg::NetZone*>&) {
        return m.latency;
      });
  sg::Activity::on_completion_cb([&m](const sg::Activity& activity) {
    const auto* comm = dynamic_cast<const sg::Comm*>(&activity);
    if (comm == nullptr) return;
    const auto id = reinterpret_cast<FlowId>(comm->get_data<void>());
    const auto it = m.flows.find(id);
    if (it == m.flows.end()) return;  // canceled: the kernel reports it twice
    m.parked.emplace_back(sg::Engine::get_clock(), std::move(it->second.comm));
    m.flows.erase(it);
    m.ended.push_back(id);
    m.arm();
  });
}

FlowNet::~FlowNet() {
  // Running flows must not outlive the engine, nor be dropped while it runs: cancel, then forget.
  if (!impl_) return;
  auto flows = std::move(impl_->flows);
  impl_->flows.clear();
  for (auto& [id, flow] : flows) flow.comm->cancel();
}

FlowId FlowNet::start(std::span<const topology::LinkIndex> path, Bytes bytes, Duration latency) {
  Impl& m = *impl_;
  m.zone->path.clear();
  for (const topology::LinkIndex link : path) m.zone->path.push_back(m.links[link.v].link->get_impl());
  m.latency = seconds(latency);
  const FlowId id = ++m.last;
  auto comm = sg::Comm::sendto_init(m.from, m.to);
  comm->set_data(reinterpret_cast<void*>(id));
  comm->set_payload_size(static_cast<std::uint64_t>(std::max<std::int64_t>(0, bytes.v)));
  m.flows.emplace(id, Impl::Flow{comm});
  comm->start();
  return id;
}

void FlowNet::cancel(FlowId id) {
  Impl& m = *impl_;
  const auto it = m.flows.find(id);
  if (it == m.flows.end()) {
    std::erase(m.ended, id);
    return;
  }
  const sg::CommPtr comm = it->second.comm;
  m.flows.erase(it);  // first: cancel() fires the completion callback
  m.parked.emplace_back(sg::Engine::get_clock(), comm);
  comm->cancel();
}

Bytes FlowNet::remaining(FlowId id) const {
  const auto it = impl_->flows.find(id);
  if (it == impl_->flows.end()) return Bytes{0};
  return Bytes{static_cast<std::int64_t>(std::llround(it->second.comm->get_remaining()))};
}

void FlowNet::set_capacity(topology::LinkIndex link, BytesPerSecond effective) {
  Impl::Link& l = impl_->links[link.v];
  FAULTLINE_ASSERT(effective.v > 0 && static_cast<double>(effective.v) <= l.nominal, "link={} capacity={}", link.v, effective.v);
  if (l.effective == static_cast<double>(effective.v)) return;
  l.effective = static_cast<double>(effective.v);
  l.link->set_bandwidth(l.nominal);  // unchanged, but makes the sharing be solved anew
}

std::uint64_t FlowNet::started() const { return impl_->last; }
std::size_t FlowNet::running() const { return impl_->flows.size(); }

void FlowNet::run(const std::function<Instant()>& next, const std::function<void(Instant)>& handle,
                  const std::function<void(Instant, std::span<const FlowId>)>& done) {
  Impl& m = *impl_;
  m.next = next;
  m.handle = handle;
  m.done = done;
  m.arm();
  m.engine->run();
}

void FlowNet::rearm() { impl_->arm(); }

}  // namespace faultline::sim
