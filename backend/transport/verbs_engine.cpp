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

namespace faultline::transport {
namespace {

constexpr std::uint64_t kAddressMagic = 0x3161'7362'7266'6c66ULL;
constexpr std::uint64_t kRegionMagic = 0x3172'7362'7266'6c66ULL;
constexpr int kCompletionQueue = 16'384;

struct AddressHead {
  std::uint64_t magic = kAddressMagic;
  std::uint64_t identity = 0;
};
struct RegionBlob {
  std::uint64_t magic = kRegionMagic;
  std::uint64_t identity = 0;
  std::uint64_t address = 0;
  std::int64_t length = 0;
  std::uint64_t rkey = 0;
};

ibv_mtu mtu_enum(std::uint32_t bytes) { return bytes >= 4096 ? IBV_MTU_4096 : bytes >= 2048 ? IBV_MTU_2048 : bytes >= 1024 ? IBV_MTU_1024 : bytes >= 512 ? IBV_MTU_512 : IBV_MTU_256; }

}  // namespace

VerbsTransport::Engine::Engine(const VerbsSettings& settings)
    : settings_(settings),
      device_(open_verbs_device(settings)),
      identity_(random_value<std::uint64_t>()),
      book_({.ops_in_flight_max = settings.ops_in_flight_max,
             .spans_per_batch_max = settings.spans_per_batch_max,
             // The deadline is checked by a timer and reported after the queue pairs are gone.
             .failure_budget = settings.transfer_deadline + Duration{50'000'000},
             .device_memory = false}) {
  settings_.qps = std::clamp(settings_.qps, 1U, kQpsMax);
  settings_.chunk = Bytes{std::min<std::int64_t>(settings_.chunk.v, device_.port.max_msg_sz * 4LL / 5)};  // a last chunk may be a quarter longer
  settings_.sge_max = std::min(settings_.sge_max, static_cast<std::uint32_t>(device_.attributes.max_sge));
  settings_.send_queue = std::min(settings_.send_queue, static_cast<std::uint32_t>(device_.attributes.max_qp_wr));
  if (device_.soft) settings_.retry_count = std::min(settings_.retry_count, 6U);
  pd_.reset(ibv_alloc_pd(device_.context.get()));
  channel_.reset(ibv_create_comp_channel(device_.context.get()));
  if (pd_ && channel_) {
    cq_.reset(ibv_create_cq(device_.context.get(), std::min(kCompletionQueue, device_.attributes.max_cqe), nullptr, channel_.get(), 0));
  }
  wake_event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!cq_ || !wake_event_) throw std::runtime_error(fmt::format("{}: no resources for a completion queue: {}", device_.name, std::strerror(errno)));
  for (const int fd : {channel_->fd, device_.context->async_fd}) ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ibv_req_notify_cq(cq_.get(), 0);
  TcpSettings control = settings_.control;
  control.connections = 1;
  control.ops_in_flight_max = 256;
  control_ = std::make_unique<TcpTransport>(control);
  thread_ = std::thread([this] { run(); });
}

VerbsTransport::Engine::~Engine() {
  stop_.store(true);
  wake();
  thread_.join();
  control_.reset();  // the peer learns of the end here
  peers_.clear();    // queue pairs before regions: nothing may move when the memory is the owner's again
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
  for (const auto& [id, peer] : peers_) counters.queue_pairs += peer.queues.size();
  return counters;
}

std::string VerbsTransport::Engine::description() const {
  const VerbsSettings& s = settings_;
  return fmt::format(
      "device {}\nport {}\nlink_layer {}\ngid_index {}\nactive_mtu {}\nmtu {}\nqps {}\nsend_queue {}\nsge_max {}\nchunk {}\ntimeout {}\nretry_count {}\n"
      "rnr_retry {}\nmin_rnr_timer {}\ntraffic_class {}\ntransfer_deadline_ms {}\nmode {}\n",
      device_.name, s.port, device_.ethernet ? "ethernet" : "infiniband", device_.gid_index, 128 << device_.port.active_mtu, s.mtu, s.qps, s.send_queue, s.sge_max,
      s.chunk.v, s.timeout, s.retry_count, s.rnr_retry, s.min_rnr_timer, s.traffic_class, s.transfer_deadline.v / 1'000'000, s.polling ? "polling" : "events");
}

std::vector<std::byte> VerbsTransport::Engine::local_address() const {
  const AddressHead head{.magic = kAddressMagic, .identity = identity_};
  std::vector<std::byte> bytes(sizeof head);
  std::memcpy(bytes.data(), &head, sizeof head);
  const auto control = control_->local_address();
  bytes.insert(bytes.end(), control.begin(), control.end());
  return bytes;
}

Status VerbsTransport::Engine::open(EndpointId peer, std::span<const std::byte> address) {
  AddressHead head;
  if (address.size() <= sizeof head) return Cause::protection;
  std::memcpy(&head, address.data(), sizeof head);
  if (head.magic != kAddressMagic || head.identity == identity_) return Cause::protection;
  const std::lock_guard lock(mutex_);
  if (book_.known(peer)) return Cause::overload;
  if (Status status = control_->open(peer, address.subspan(sizeof head)); !status) return status;
  const Status opened = book_.opening(peer);
  FAULTLINE_ASSERT(bool(opened), "peer={}", peer.v);
  Peer& fresh = peers_[peer];
  fresh.id = peer;
  fresh.identity = head.identity;
  fresh.connect_deadline = std::chrono::steady_clock::now() + std::chrono::nanoseconds(settings_.control.connect_timeout.v);
  if (!make_queues(fresh)) {
    lose(peer, Cause::overload, Cause::overload);
    return ok();  // EndpointDown says so
  }
  return ok();
}

bool VerbsTransport::Engine::make_queues(Peer& peer) {
  peer.mine.qps = settings_.qps;
  peer.mine.mtu = std::min(mtu_enum(settings_.mtu), device_.port.active_mtu);
  peer.mine.lid = device_.port.lid;
  peer.mine.gid = device_.gid;
  peer.queues.resize(settings_.qps);
  for (std::uint32_t i = 0; i < settings_.qps; ++i) {
    Queue& queue = peer.queues[i];
    // A peer sends at most its bound of notifies before it hears from us; every receive is given back at once.
    queue.qp = make_qp(pd_.get(), cq_.get(), settings_, settings_.ops_in_flight_max);
    if (!queue.qp || !post_receive(queue.qp.get(), settings_.ops_in_flight_max)) return false;
    by_qp_[queue.qp->qp_num] = peer.id;
    peer.mine.one[i] = {queue.qp->qp_num, random_value<std::uint32_t>() & 0xffffff};
  }
  return true;
}

bool VerbsTransport::Engine::post_receive(ibv_qp* qp, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    ibv_recv_wr receive{};
    ibv_recv_wr* bad = nullptr;
    if (ibv_post_recv(qp, &receive, &bad) != 0) return false;
  }
  return true;
}

void VerbsTransport::Engine::close(EndpointId peer) {
  const std::lock_guard lock(mutex_);
  lose(peer, Cause::canceled, Cause::canceled);
}

/// First the queue pairs, so that nothing is read or written for this peer any more; then the ends of its operations, which
/// wait for the control connection to be gone, so that the peer can be opened again when EndpointDown is seen.
void VerbsTransport::Engine::lose(EndpointId id, Cause op_cause, Cause down_cause) {
  const auto it = peers_.find(id);
  if (it == peers_.end()) return;
  for (Queue& queue : it->second.queues) {
    if (queue.qp) by_qp_.erase(queue.qp->qp_num);
  }
  peers_.erase(it);
  std::erase_if(operations_, [id](const auto& entry) { return entry.second.peer == id; });
  book_.closing(id);
  ending_[id] = {op_cause, down_cause};
  control_->close(id);
  wake();
}

Status VerbsTransport::Engine::register_memory(RegionId region, std::span<std::byte> memory) {
  const std::lock_guard lock(mutex_);
  if (book_.has_region(region)) return Cause::overload;
  if (memory.empty()) return Cause::protection;
  // No REMOTE_ATOMIC: some NICs refuse it (ROCm/mori issue 497) and nothing here uses it.
  MrHandle mr(ibv_reg_mr(pd_.get(), memory.data(), memory.size(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
  if (!mr) return errno == ENOMEM ? Cause::overload : Cause::protection;
  regions_[region] = std::move(mr);
  return book_.add_region(region, memory);
}

Status VerbsTransport::Engine::register_dmabuf(RegionId region, int dmabuf, Bytes offset, Bytes length, std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  if (book_.has_region(region)) return Cause::overload;
  MrHandle mr(ibv_reg_dmabuf_mr(pd_.get(), static_cast<std::uint64_t>(offset.v), static_cast<std::size_t>(length.v), address, dmabuf,
                                IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
  if (!mr) return Cause::protection;
  regions_[region] = std::move(mr);
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
  const RegionBlob blob{.magic = kRegionMagic,
                        .identity = identity_,
                        .address = reinterpret_cast<std::uint64_t>(memory.data()),
                        .length = static_cast<std::int64_t>(memory.size()),
                        .rkey = it->second->rkey};
  std::vector<std::byte> bytes(sizeof blob);
  std::memcpy(bytes.data(), &blob, sizeof blob);
  return bytes;
}

Status VerbsTransport::Engine::import_region(RegionId region, EndpointId owner, std::span<const std::byte> bytes) {
  RegionBlob blob;
  if (bytes.size() != sizeof blob) return Cause::protection;
  std::memcpy(&blob, bytes.data(), sizeof blob);
  const std::lock_guard lock(mutex_);
  const auto peer = peers_.find(owner);
  if (blob.magic != kRegionMagic || peer == peers_.end() || peer->second.identity != blob.identity) return Cause::protection;
  return book_.add_remote(region, {.owner = owner, .key = blob.rkey, .address = blob.address, .length = blob.length});
}

Status VerbsTransport::Engine::post(const WriteBatch& batch) {
  const std::lock_guard lock(mutex_);
  if (Status status = book_.admit(batch); !status) return status;
  Peer& peer = peers_.at(batch.peer);
  const Plan plan = plan_batch(batch.spans, {.sge_max = settings_.sge_max,
                                             .chunk_bytes = settings_.chunk.v,
                                             .queues = static_cast<std::uint32_t>(peer.queues.size()),
                                             .stripe_min_bytes = settings_.stripe_min.v});
  if (peer.in_flight++ == 0) peer.progress = std::chrono::steady_clock::now();
  Operation& operation = operations_[batch.op];
  operation.peer = batch.peer;

  const std::uint32_t base = peer.rotation++;
  const bool one_queue = plan.requests.empty() || plan.requests.front().queue == plan.requests.back().queue;
  if (!one_queue) operation.notify = batch.notify;
  std::vector<std::pair<std::size_t, Chain>> chains;
  const std::size_t chain_max = std::max<std::size_t>(1, settings_.send_queue / 2);
  for (const Request& request : plan.requests) {
    const std::size_t queue = (base + request.queue) % peer.queues.size();
    if (chains.empty() || chains.back().first != queue || chains.back().second.requests.size() >= chain_max) chains.push_back({queue, {++chains_, batch.op, {}, {}}});
    Chain& chain = chains.back().second;
    const RemoteRegion& remote = book_.remote(request.remote);
    ibv_send_wr wr{};
    wr.wr_id = chain.id;
    wr.opcode = IBV_WR_RDMA_WRITE;
    wr.num_sge = static_cast<int>(request.sge_count);
    wr.wr.rdma.remote_addr = remote.address + static_cast<std::uint64_t>(request.remote_offset);
    wr.wr.rdma.rkey = static_cast<std::uint32_t>(remote.key);
    chain.requests.push_back(wr);
    for (std::uint32_t k = 0; k < request.sge_count; ++k) {
      const Sge& sge = plan.sges[request.first_sge + k];
      chain.sges.push_back({reinterpret_cast<std::uint64_t>(book_.region(sge.local).data()) + static_cast<std::uint64_t>(sge.offset),
                            static_cast<std::uint32_t>(sge.length), regions_.at(sge.local)->lkey});
    }
  }
  if (chains.empty()) {  // nothing to move: an empty write still proves that the peer answers
    ibv_send_wr wr{};
    wr.wr_id = ++chains_;
    wr.opcode = IBV_WR_RDMA_WRITE;
    chains.push_back({base % peer.queues.size(), {wr.wr_id, batch.op, {wr}, {}}});
  }
  if (one_queue && batch.notify) {
    ibv_send_wr& last = chains.back().second.requests.back();  // in order behind the others of its queue pair
    last.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
    last.imm_data = htonl(*batch.notify);
  }
  operation.chains_left = static_cast<std::uint32_t>(chains.size());
  for (auto& [queue, chain] : chains) enqueue(peer, queue, std::move(chain));
  for (std::size_t i = 0; i < settings_.qps; ++i) {
    const auto it = peers_.find(batch.peer);
    if (it == peers_.end()) break;  // posting failed: the peer is given up, and the operation ends with it
    flush_waiting(it->second, it->second.queues[i]);
  }
  return ok();
}

void VerbsTransport::Engine::enqueue(Peer& peer, std::size_t queue, Chain chain) { peer.queues[queue].waiting.push_back(std::move(chain)); }

void VerbsTransport::Engine::flush_waiting(Peer& peer, Queue& queue) {
  while (!queue.waiting.empty()) {
    Chain& chain = queue.waiting.front();
    const auto count = static_cast<std::uint32_t>(chain.requests.size());
    if (queue.used + count > settings_.send_queue) return;  // counted here: the provider's queue may be larger than asked for
    std::size_t sge = 0;
    for (std::size_t i = 0; i < chain.requests.size(); ++i) {
      ibv_send_wr& wr = chain.requests[i];
      wr.sg_list = wr.num_sge > 0 ? chain.sges.data() + sge : nullptr;
      sge += static_cast<std::size_t>(wr.num_sge);
      wr.next = i + 1 < chain.requests.size() ? &chain.requests[i + 1] : nullptr;
      wr.send_flags = wr.next ? 0 : IBV_SEND_SIGNALED;
    }
    queue.posted.emplace_back(chain.id, count);
    queue.ops[chain.id] = chain.op;
    queue.used += count;
    counters_.requests += count;
    ++counters_.doorbells;
    ibv_send_wr* bad = nullptr;
    if (ibv_post_send(queue.qp.get(), chain.requests.data(), &bad) != 0) {
      lose(peer.id, Cause::link_down, Cause::link_down);
      return;
    }
    queue.waiting.pop_front();
  }
}

void VerbsTransport::Engine::cancel(OpId op) {
  const std::lock_guard lock(mutex_);
  const auto it = operations_.find(op);
  if (it == operations_.end()) return;
  // What has been posted cannot be taken back; it may still complete. Only an operation that waits as a whole is withdrawn.
  Peer& peer = peers_.at(it->second.peer);
  std::uint32_t waiting = 0;
  for (const Queue& queue : peer.queues) {
    waiting += static_cast<std::uint32_t>(std::count_if(queue.waiting.begin(), queue.waiting.end(), [op](const Chain& chain) { return chain.op == op; }));
  }
  if (waiting != it->second.chains_left) return;
  for (Queue& queue : peer.queues) std::erase_if(queue.waiting, [op](const Chain& chain) { return chain.op == op; });
  operations_.erase(it);
  --peer.in_flight;
  book_.failed(op, Cause::canceled);
}

std::size_t VerbsTransport::Engine::poll(std::span<TransportEvent> out) {
  const std::lock_guard lock(mutex_);
  return book_.poll(out);
}

}  // namespace faultline::transport
