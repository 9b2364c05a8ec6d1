// The owner's side of TcpTransport: checks and books under the mutex, work handed to the progress thread.
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <stdexcept>

#include "backend/transport/tcp_engine.h"
#include "backend/transport/wire.h"

namespace faultline::transport {
namespace {

constexpr std::uint64_t kAddressMagic = 0x3161'7063'7466'6c66ULL;
constexpr std::uint64_t kRegionMagic = 0x3172'7063'7466'6c66ULL;

}  // namespace

std::vector<std::byte> encode(const TcpAddress& address) {
  return to_blob(kAddressMagic, address.id, address.host, address.ipv4, address.port, address.flags);
}

std::optional<TcpAddress> decode_address(std::span<const std::byte> bytes) {
  TcpAddress address;
  if (!from_blob(bytes, kAddressMagic, address.id, address.host, address.ipv4, address.port, address.flags))
    return std::nullopt;
  return address;
}

TcpTransport::Engine::Engine(const TcpSettings& settings)
    : settings_(settings), book_(settings.limits(settings.failure_budget)) {
  FAULTLINE_ASSERT(!settings.secret.empty(), "a cluster has a secret");
  const auto where = parse_ipv4(settings.bind_address, settings.port);
  if (!where) throw std::runtime_error("not a numeric IPv4 address: " + settings.bind_address);
  tcp_listener_ = listen_tcp(*where);
  address_ = {.id = random_value<Uuid>(),
              .host = host_identity(),
              .ipv4 = where->sin_addr.s_addr,
              .port = port_of(tcp_listener_),
              .flags = static_cast<std::uint16_t>(settings.same_host_path ? 1 : 0)};
  if (settings.same_host_path) {
    unix_name_ = "faultline-" + hex(address_.id);
    unix_listener_ = listen_unix(unix_name_);
  }
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  wake_event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  owner_event_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !wake_event_ || !owner_event_) throw std::runtime_error("no descriptors left for a transport");
  thread_ = std::thread([this] { run(); });
}

TcpTransport::Engine::~Engine() {
  stop_.store(true);
  const std::uint64_t one = 1;
  const ssize_t sent = ::write(wake_event_.get(), &one, sizeof one);
  (void)sent;
  thread_.join();
}

TransportLimits TcpTransport::Engine::limits() const {
  const std::lock_guard lock(mutex_);
  return book_.limits();
}

TcpCounters TcpTransport::Engine::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

void TcpTransport::Engine::wake() {
  // The thread says that it sleeps before it looks for commands under the mutex: either it saw ours, or we see it
  // sleep.
  if (!sleeping_.load()) return;
  const std::uint64_t one = 1;
  const ssize_t sent = ::write(wake_event_.get(), &one, sizeof one);
  (void)sent;
}

Status TcpTransport::Engine::open(EndpointId peer, std::span<const std::byte> address) {
  const auto decoded = decode_address(address);
  if (!decoded || decoded->id == address_.id) return Cause::protection;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [other, id] : ids_) {
      if (id == decoded->id) return Cause::overload;  // this peer is open already, maybe under another id
    }
    if (Status status = book_.opening(peer); !status) return status;
    ids_[peer] = decoded->id;
    Command command{};
    command.kind = Command::Kind::open;
    command.peer = peer;
    command.address = *decoded;
    commands_.push_back(std::move(command));
  }
  wake();
  return ok();
}

void TcpTransport::Engine::close(EndpointId peer) {
  {
    const std::lock_guard lock(mutex_);
    if (!book_.closing(peer)) return;
    Command command{};
    command.kind = Command::Kind::close;
    command.peer = peer;
    commands_.push_back(std::move(command));
  }
  wake();
}

Status TcpTransport::Engine::register_memory(RegionId region, std::span<std::byte> memory) {
  const std::uint64_t key = random_value<std::uint64_t>();
  const std::lock_guard lock(mutex_);
  if (Status status = book_.add_region(region, memory); !status) return status;
  keys_[region] = key;
  regions_.add(key, memory);
  return ok();
}

Status TcpTransport::Engine::register_shared(RegionId region, const SharedMemory& memory) {
  if (Status status = register_memory(region, memory.bytes()); !status) return status;
  const std::lock_guard lock(mutex_);
  shares_[region] = {++share_numbers_, memory.descriptor().get()};
  return ok();
}

Status TcpTransport::Engine::deregister(RegionId region) {
  std::uint64_t key = 0;
  {
    const std::lock_guard lock(mutex_);
    if (Status status = book_.remove_region(region); !status) return status;
    key = keys_.at(region);
    keys_.erase(region);
    shares_.erase(region);
  }
  regions_.remove(key);  // waits until a landing write is out of it
  return ok();
}

std::vector<std::byte> TcpTransport::Engine::export_region(RegionId region) const {
  const std::lock_guard lock(mutex_);
  const auto key = keys_.find(region);
  if (key == keys_.end()) return {};
  return to_blob(kRegionMagic, address_.id, key->second, static_cast<std::int64_t>(book_.region(region).size()));
}

Status TcpTransport::Engine::import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) {
  Uuid from{};
  std::uint64_t key = 0;
  std::int64_t length = 0;
  if (!from_blob(blob, kRegionMagic, from, key, length)) return Cause::protection;
  const std::lock_guard lock(mutex_);
  const auto id = ids_.find(owner);
  if (id == ids_.end() || id->second != from) return Cause::protection;
  return book_.add_remote(region, {.owner = owner, .key = key, .address = 0, .length = length});
}

Status TcpTransport::Engine::post(const WriteBatch& batch) {
  {
    const std::lock_guard lock(mutex_);
    if (Status status = book_.admit(batch); !status) return status;
  }
  const Plan plan = plan_batch(batch.spans, {.sge_max = 1024,
                                             .chunk_bytes = settings_.chunk.v,
                                             .queues = settings_.connections,
                                             .stripe_min_bytes = settings_.stripe_min.v});
  auto outgoing = std::make_unique<Outgoing>();
  outgoing->op = batch.op;
  outgoing->notify = batch.notify;
  outgoing->bytes = plan.bytes;
  outgoing->sources.reserve(plan.sges.size());
  outgoing->parts.reserve(plan.requests.size());
  {
    const std::lock_guard lock(mutex_);
    if (!book_.in_flight(batch.op)) return ok();  // the peer went down meanwhile: its end is queued
    RegionId local;
    std::byte* base = nullptr;
    Share share;
    for (const Sge& sge : plan.sges) {
      if (sge.local != local || !base) {
        local = sge.local;
        base = book_.region(local).data();
        const auto it = shares_.find(local);
        share = it == shares_.end() ? Share{} : it->second;
      }
      if (!shares_.empty())
        outgoing->origins.push_back({share.number, share.memory, static_cast<std::uint64_t>(sge.offset)});
      outgoing->sources.push_back({base + sge.offset, static_cast<std::size_t>(sge.length)});
    }
    for (const Request& request : plan.requests) {
      outgoing->parts.push_back({.key = book_.remote(request.remote).key,
                                 .offset = static_cast<std::uint64_t>(request.remote_offset),
                                 .length = request.length,
                                 .first = request.first_sge,
                                 .count = request.sge_count,
                                 .queue = request.queue});
    }
    Command command{};
    command.kind = Command::Kind::post;
    command.peer = batch.peer;
    command.batch = std::move(outgoing);
    commands_.push_back(std::move(command));
  }
  wake();
  return ok();
}

void TcpTransport::Engine::cancel(OpId op) {
  {
    const std::lock_guard lock(mutex_);
    if (!book_.in_flight(op)) return;
    Command command{};
    command.kind = Command::Kind::cancel;
    command.op = op;
    commands_.push_back(std::move(command));
  }
  wake();
}

std::size_t TcpTransport::Engine::poll(std::span<TransportEvent> out) {
  const std::lock_guard lock(mutex_);
  const std::size_t count = book_.poll(out);
  for (std::size_t i = 0; i < count; ++i) {
    if (const auto* notified = std::get_if<Notified>(&out[i])) {
      const auto unread = unread_notifies_.find(notified->from);
      if (unread != unread_notifies_.end() && unread->second > 0) --unread->second;
    }
  }
  if (told_ && book_.idle()) {
    std::uint64_t drained = 0;
    const ssize_t got = ::read(owner_event_.get(), &drained, sizeof drained);
    (void)got;
    told_ = false;
  }
  return count;
}

}  // namespace faultline::transport
