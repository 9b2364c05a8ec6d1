// The owner's side of VerbsTransport: registration, batches to chains of work requests, queue pairs made and given up.
#include "backend/transport/verbs_engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "backend/transport/net.h"
#include "backend/transport/wire.h"

namespace faultline::transport {
namespace {

constexpr std::uint64_t kAddressMagic = 0x3161'7362'7266'6c66ULL;
constexpr std::uint64_t kRegionMagic = 0x3172'7362'7266'6c66ULL;
constexpr int kCompletionQueue = 16'384;

}  // namespace

VerbsTransport::Engine::Engine(const VerbsSettings& settings)
    : settings_(settings), identity_(random_value<std::uint64_t>()), book_(settings.limits(Duration{})) {
  settings_.qps = std::clamp(settings_.qps, 1U, kQpsMax);
  for (const std::string& name : choose_devices(settings_)) {
    rails_.emplace_back();
    Rail& rail = rails_.back();
    rail.device = open_verbs_device(settings_, name);
    const VerbsDevice& device = rail.device;
    settings_.chunk = Bytes{std::min<std::int64_t>(
        settings_.chunk.v, device.port.max_msg_sz * 4LL / 5)};  // a last chunk may be a quarter longer
    settings_.sge_max = std::min(settings_.sge_max, static_cast<std::uint32_t>(device.attributes.max_sge));
    settings_.send_queue = std::min(settings_.send_queue, static_cast<std::uint32_t>(device.attributes.max_qp_wr) - 1);
    if (device.soft) settings_.retry_count = std::min(settings_.retry_count, 6U);
    rail.pd.reset(ibv_alloc_pd(device.context.get()));
    rail.channel.reset(ibv_create_comp_channel(device.context.get()));
    if (rail.pd && rail.channel) {
      rail.cq.reset(ibv_create_cq(device.context.get(), std::min(kCompletionQueue, device.attributes.max_cqe), nullptr,
                                  rail.channel.get(), 0));
    }
    if (!rail.cq)
      throw std::runtime_error(fmt::format("{}: no resources for a completion queue: {}", name, std::strerror(errno)));
    for (const int fd : {rail.channel->fd, device.context->async_fd})
      ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    ibv_req_notify_cq(rail.cq.get(), 0);
  }
  // Each rail may use its deadline up before the next one is tried; both are checked by a timer and reported after the
  // queue pairs are gone.
  book_.set_limits(settings_.limits((settings_.transfer_deadline + Duration{50'000'000}) *
                                    static_cast<std::int64_t>(rails_.size())));
  wake_event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event_) throw std::runtime_error("no descriptors left for a transport");
  TcpSettings control = settings_.control;
  control.connections = 1;  // its notifies come in order
  control.ops_in_flight_max = 256;
  control_ = std::make_unique<TcpTransport>(control);
  thread_ = std::thread([this] { run(); });
  destroyer_ = std::thread([this] { destroy(); });
}

VerbsTransport::Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);  // the destroying thread is either waiting or has yet to look
    stop_.store(true);
  }
  wake();
  thread_.join();
  destroy_wake_.notify_one();
  destroyer_.join();
  for (Attempt& attempt : attempts_) attempt.thread.join();
  control_.reset();  // the peer learns of the end here
  attempts_.clear();
  peers_.clear();  // queue pairs before regions: nothing may move when the memory is the owner's again
  retired_.clear();
  doomed_.clear();
  regions_.clear();
}

void VerbsTransport::Engine::wake() {
  const std::uint64_t one = 1;
  const ssize_t sent = ::write(wake_event_.get(), &one, sizeof one);
  (void)sent;
}

TransportLimits VerbsTransport::Engine::limits() const {
  const std::lock_guard lock(mutex_);
  return book_.limits();
}
VerbsCounters VerbsTransport::Engine::counters() const {
  const std::lock_guard lock(mutex_);
  VerbsCounters counters = counters_;
  counters.queue_pairs += retired_.size() + doomed_.size() + destroying_;
  for (const Attempt& attempt : attempts_) counters.queue_pairs += attempt.orphans.size();
  for (const auto& [id, peer] : peers_) {
    for (const Link& link : peer.links) {
      counters.queue_pairs += link.queues.size();
      counters.rails_up += link.state == Link::State::up ? 1 : 0;
    }
  }
  return counters;
}

std::string VerbsTransport::Engine::description() const {
  const VerbsSettings& s = settings_;
  std::string text;
  for (std::size_t i = 0; i < rails_.size(); ++i) {
    const VerbsDevice& device = rails_[i].device;
    text += fmt::format("rail {} device {} (pci {}, numa {}) port {} link_layer {} gid_index {} active_mtu {}\n", i,
                        device.name, device.pci.empty() ? "-" : device.pci, device.numa_node, s.port,
                        device.ethernet ? "ethernet" : "infiniband", device.gid_index, 128 << device.port.active_mtu);
  }
  return text + fmt::format(
                    "mtu {}\nqps {}\nsend_queue {}\nsge_max {}\ninline_max {}\nchunk {}\nstripe_min {}\ntimeout "
                    "{}\nretry_count {}\nrnr_retry {}\nmin_rnr_timer {}\n"
                    "traffic_class {}\ntransfer_deadline_ms {}\nrail_pause_ms {}\nmode {}\n",
                    s.mtu, s.qps, s.send_queue, s.sge_max, s.inline_max, s.chunk.v, s.stripe_min.v, s.timeout,
                    s.retry_count, s.rnr_retry, s.min_rnr_timer, s.traffic_class, s.transfer_deadline.v / 1'000'000,
                    s.rail_pause.v / 1'000'000, s.polling ? "polling" : "events");
}

std::vector<std::byte> VerbsTransport::Engine::local_address() const {
  std::vector<std::byte> bytes = to_blob(kAddressMagic, identity_);
  const auto control = control_->local_address();
  bytes.insert(bytes.end(), control.begin(), control.end());
  return bytes;
}

Status VerbsTransport::Engine::open(EndpointId peer, std::span<const std::byte> address) {
  constexpr std::size_t kHead = 2 * sizeof(std::uint64_t);
  std::uint64_t identity = 0;
  if (address.size() <= kHead || !from_blob(address.first(kHead), kAddressMagic, identity) || identity == identity_)
    return Cause::protection;
  const std::lock_guard lock(mutex_);
  if (book_.known(peer)) return Cause::overload;
  if (Status status = control_->open(peer, address.subspan(kHead)); !status) return status;
  const Status opened = book_.opening(peer);
  FAULTLINE_ASSERT(bool(opened), "peer={}", peer.v);
  Peer& fresh = peers_[peer];
  fresh.id = peer;
  fresh.identity = identity;
  fresh.connect_deadline =
      std::chrono::steady_clock::now() + std::chrono::nanoseconds(settings_.control.connect_timeout.v);
  fresh.links.resize(rails_.size());
  for (std::size_t rail = 0; rail < rails_.size(); ++rail) {
    if (rails_[rail].port_down) fresh.links[rail].epoch = 1;  // paused; tried when the port is back
    else if (!start_link(fresh, rail, 1)) {
      lose(peer, Cause::overload, Cause::overload);
      return ok();  // EndpointDown says so
    }
  }
  return ok();
}

void VerbsTransport::Engine::close(EndpointId peer) {
  const std::lock_guard lock(mutex_);
  lose(peer, Cause::canceled, Cause::canceled);
}

Status VerbsTransport::Engine::register_memory(RegionId region, std::span<std::byte> memory) {
  const std::lock_guard lock(mutex_);
  if (book_.has_region(region)) return Cause::overload;
  if (memory.empty()) return Cause::protection;
  std::vector<MrHandle> handles;
  for (const Rail& rail : rails_) {
    // No REMOTE_ATOMIC: some NICs refuse it (ROCm/mori issue 497) and nothing here uses it.
    handles.emplace_back(
        ibv_reg_mr(rail.pd.get(), memory.data(), memory.size(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
    if (!handles.back()) return errno == ENOMEM ? Cause::overload : Cause::protection;
  }
  regions_[region] = std::move(handles);
  return book_.add_region(region, memory);
}

Status VerbsTransport::Engine::register_dmabuf(RegionId region, int dmabuf, Bytes offset, Bytes length,
                                               std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  if (book_.has_region(region)) return Cause::overload;
  std::vector<MrHandle> handles;
  for (const Rail& rail : rails_) {
    handles.emplace_back(ibv_reg_dmabuf_mr(rail.pd.get(), static_cast<std::uint64_t>(offset.v),
                                           static_cast<std::size_t>(length.v), address, dmabuf,
                                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
    if (!handles.back()) return Cause::protection;
  }
  regions_[region] = std::move(handles);
  return book_.add_region(region, {reinterpret_cast<std::byte*>(address), static_cast<std::size_t>(length.v)});
}

Status VerbsTransport::Engine::deregister(RegionId region) {
  const std::lock_guard lock(mutex_);
  if (Status status = book_.remove_region(region); !status) return status;
  regions_.erase(region);
  return ok();
}

std::vector<std::byte> VerbsTransport::Engine::export_region(RegionId region) const {
  const std::lock_guard lock(mutex_);
  const auto it = regions_.find(region);
  if (it == regions_.end()) return {};
  const auto memory = book_.region(region);
  // One key per rail: a region is registered with every device.
  std::vector<std::byte> bytes = to_blob(kRegionMagic, identity_, reinterpret_cast<std::uint64_t>(memory.data()),
                                         static_cast<std::int64_t>(memory.size()));
  for (const MrHandle& handle : it->second) {
    const std::uint64_t key = handle->rkey;
    const auto* at = reinterpret_cast<const std::byte*>(&key);
    bytes.insert(bytes.end(), at, at + sizeof key);
  }
  return bytes;
}

Status VerbsTransport::Engine::import_region(RegionId region, EndpointId owner, std::span<const std::byte> bytes) {
  constexpr std::size_t kHead = 4 * sizeof(std::uint64_t);
  std::uint64_t identity = 0, address = 0;
  std::int64_t length = 0;
  if (bytes.size() <= kHead || (bytes.size() - kHead) % sizeof(std::uint64_t) != 0) return Cause::protection;
  if (!from_blob(bytes.first(kHead), kRegionMagic, identity, address, length)) return Cause::protection;
  const std::lock_guard lock(mutex_);
  const auto peer = peers_.find(owner);
  if (peer == peers_.end() || peer->second.identity != identity) return Cause::protection;
  std::vector<std::uint32_t> keys;
  WireReader in(bytes.subspan(kHead));
  for (std::uint64_t key = 0; keys.size() < rails_.size(); keys.push_back(static_cast<std::uint32_t>(key))) in.get(key);
  if (!in.ok()) return Cause::protection;  // fewer rails than this side has: the two would not agree which is which
  if (Status status = book_.add_remote(region, {.owner = owner, .key = keys[0], .address = address, .length = length});
      !status)
    return status;
  remote_keys_[region] = {owner, std::move(keys)};
  return ok();
}

Status VerbsTransport::Engine::post(const WriteBatch& batch) {
  const std::lock_guard lock(mutex_);
  if (Status status = book_.admit(batch); !status) return status;
  Peer& peer = peers_.at(batch.peer);
  std::size_t up = 0;
  for (const Link& link : peer.links) up += link.state == Link::State::up ? 1 : 0;
  Plan plan = plan_batch(batch.spans, {.sge_max = settings_.sge_max,
                                       .chunk_bytes = settings_.chunk.v,
                                       .queues = static_cast<std::uint32_t>(up * settings_.qps),
                                       .stripe_min_bytes = settings_.stripe_min.v});
  Operation& operation = operations_[batch.op];
  operation.peer = batch.peer;
  // An empty batch still is one empty write, which proves that the peer answers.
  const bool one_queue = plan.requests.empty() || plan.requests.front().queue == plan.requests.back().queue;
  if (!one_queue) operation.notify = batch.notify;
  const std::size_t chain_max = std::max<std::size_t>(1, settings_.send_queue / 2);
  std::vector<std::pair<std::size_t, std::size_t>> touched;  // rail, queue
  std::size_t next = 0;
  do {
    std::size_t rail = 0, index = 0;
    Queue* queue = usable_queue(peer, rail, index);
    FAULTLINE_ASSERT(queue != nullptr, "peer {} is up without a rail", peer.id.v);
    touched.emplace_back(rail, index);
    if (!peer.links[rail].busy()) peer.links[rail].progress = std::chrono::steady_clock::now();
    const std::uint32_t share = next < plan.requests.size() ? plan.requests[next].queue : 0;
    do {
      Chain chain{.id = 0, .op = batch.op, .requests = {}, .sges = {}, .notify = {}};
      for (; next < plan.requests.size() && plan.requests[next].queue == share && chain.requests.size() < chain_max;
           ++next) {
        Request request = plan.requests[next];
        const auto first = plan.sges.begin() + request.first_sge;
        request.first_sge = static_cast<std::uint32_t>(chain.sges.size());
        chain.sges.insert(chain.sges.end(), first, first + request.sge_count);
        chain.requests.push_back(request);
      }
      if (one_queue && next == plan.requests.size())
        chain.notify = batch.notify;  // in order behind the others of its queue pair
      queue->waiting.push_back(std::move(chain));
      ++operation.chains_left;
    } while (next < plan.requests.size() && plan.requests[next].queue == share);
  } while (next < plan.requests.size());
  for (const auto& [rail, queue] : touched) flush_waiting(batch.peer, rail, queue);
  return ok();
}

void VerbsTransport::Engine::flush_waiting(EndpointId id, std::size_t rail, std::size_t index) {
  const auto it = peers_.find(id);  // posting failed before: it may be given up, and its operations ended with it
  if (it == peers_.end()) return;
  Link& link = it->second.links[rail];
  if (link.state != Link::State::up && link.state != Link::State::connecting) return;  // connecting: only probes wait
  Queue& queue = link.queues[index];
  while (!queue.waiting.empty()) {
    Chain& chain = queue.waiting.front();
    if (queue.used + chain.length() > settings_.send_queue)
      return;  // counted here: the provider's queue may be larger than asked for
    chain.id = ++chains_;
    sges_.clear();
    for (const Sge& sge : chain.sges) {
      sges_.push_back(
          {reinterpret_cast<std::uint64_t>(book_.region(sge.local).data()) + static_cast<std::uint64_t>(sge.offset),
           static_cast<std::uint32_t>(sge.length), regions_.at(sge.local)[rail]->lkey});
    }
    requests_.assign(chain.length(), ibv_send_wr{});
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      ibv_send_wr& wr = requests_[i];
      wr.wr_id = chain.id;
      wr.opcode = IBV_WR_RDMA_WRITE;
      wr.next = i + 1 < requests_.size() ? &requests_[i + 1] : nullptr;
      wr.send_flags = wr.next ? 0 : IBV_SEND_SIGNALED;
      if (chain.requests.empty()) break;
      const Request& request = chain.requests[i];
      wr.num_sge = static_cast<int>(request.sge_count);
      wr.sg_list = sges_.data() + request.first_sge;
      wr.wr.rdma.remote_addr = book_.remote(request.remote).address + static_cast<std::uint64_t>(request.remote_offset);
      wr.wr.rdma.rkey = remote_keys_.at(request.remote).by_rail[rail];
    }
    if (chain.notify) {
      requests_.back().opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
      requests_.back().imm_data = htonl(*chain.notify);
    }
    queue.used += chain.length();
    counters_.requests += chain.probe ? 0 : chain.length();
    counters_.doorbells += chain.probe ? 0 : 1;
    queue.posted.push_back(std::move(chain));
    queue.waiting.pop_front();
    ibv_send_wr* bad = nullptr;
    if (ibv_post_send(queue.qp.get(), requests_.data(), &bad) != 0) {
      fail_link(id, rail, Cause::link_down);
      return;
    }
  }
}

void VerbsTransport::Engine::cancel(OpId op) {
  const std::lock_guard lock(mutex_);
  const auto it = operations_.find(op);
  if (it == operations_.end()) return;
  // What has been posted cannot be taken back; it may still complete. Only an operation that waits as a whole is
  // withdrawn.
  Peer& peer = peers_.at(it->second.peer);
  std::uint32_t waiting = 0;
  const auto of_op = [op](const Chain& chain) { return chain.op == op; };
  for (const Link& link : peer.links) {
    for (const Queue& queue : link.queues)
      waiting += static_cast<std::uint32_t>(std::count_if(queue.waiting.begin(), queue.waiting.end(), of_op));
  }
  if (waiting != it->second.chains_left) return;
  for (Link& link : peer.links) {
    for (Queue& queue : link.queues) std::erase_if(queue.waiting, of_op);
  }
  operations_.erase(it);
  book_.failed(op, Cause::canceled);
}

std::size_t VerbsTransport::Engine::poll(std::span<TransportEvent> out) {
  const std::lock_guard lock(mutex_);
  return book_.poll(out);
}

}  // namespace faultline::transport
