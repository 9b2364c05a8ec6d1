#include "backend/driver/kv_port.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "core/base/assert.h"
#include "core/base/hash.h"

namespace faultline::live {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr RegionId kIncoming{0}, kOutgoing{1};
constexpr std::uint32_t kFirstRemote = 2;
constexpr std::int64_t kStripe = 4 << 20;  // of each sender; a hand-off of more bytes wraps
constexpr std::int64_t kUnit = 64;         // hand-offs begin at multiples of it, so that 16 bits name any place
constexpr std::int64_t kHeader = 24;       // op, bytes, hash
constexpr std::size_t kPassesKept = 256;
// A path that was never there is opened first, in real time: two messages and a handshake.
constexpr std::chrono::seconds kOpenMax{2};

void put(std::byte* at, std::uint64_t value) { std::memcpy(at, &value, sizeof value); }
std::uint64_t get(const std::byte* at) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}
std::uint64_t hash_of(const std::byte* at, std::int64_t count) {
  return hash_text({reinterpret_cast<const char*>(at), static_cast<std::size_t>(count)});
}

transport::TcpSettings settings_of(const Cluster& cluster, Duration budget) {
  transport::TcpSettings s;
  s.secret = cluster.settings().secret;
  s.connections = 1;
  s.same_host_path = false;  // first light is about sockets
  s.failure_budget = budget;
  return s;
}

std::byte* reserve(std::size_t size) {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  FAULTLINE_ASSERT(at != MAP_FAILED, "{} bytes", size);
  return static_cast<std::byte*>(at);
}

}  // namespace

KvPort::KvPort(const Cluster& cluster, std::uint32_t node, std::uint64_t incarnation, Duration budget)
    : cluster_(cluster),
      node_(node),
      incarnation_(incarnation),
      budget_(budget),
      transport_(settings_of(cluster, budget)) {
  size_ = static_cast<std::size_t>(kStripe) * cluster.nodes();
  region_ = reserve(size_);  // pages come with the first byte
  outgoing_ = reserve(size_);
  const bool registered = bool(transport_.register_memory(kIncoming, {region_, size_})) &&
                          bool(transport_.register_memory(kOutgoing, {outgoing_, size_}));
  FAULTLINE_ASSERT(registered, "node={}", node);
}

KvPort::~KvPort() = default;  // the transport ends with the process, and the memory after it

// ---- paths
// ------------------------------------------------------------------------------------------------------------

void KvPort::want(std::uint32_t node) {
  if (node == node_) return;
  Path& path = paths_[node];
  if (path.state == Path::State::up || path.state == Path::State::opening) return;
  const Time now = steady_clock::now();
  if (path.state == Path::State::asked && path.asked != Time{} && now - path.asked < nanoseconds(budget_.v)) return;
  path.state = Path::State::asked;
  path.asked = now;
  hellos_.emplace_back(node, TransportHello{blob_of(transport_.local_address()),
                                            blob_of(transport_.export_region(kIncoming)), incarnation_, false});
}

void KvPort::hello(std::uint32_t from, const TransportHello& said) {
  Path& path = paths_[from];
  const bool known =
      path.incarnation == said.incarnation && (path.state == Path::State::up || path.state == Path::State::opening);
  if (!known) {
    if (path.state == Path::State::up || path.state == Path::State::opening) lose(from, Cause::peer_lost);
    open(from, path, said);
  }
  if (!said.answer) {
    hellos_.emplace_back(from, TransportHello{blob_of(transport_.local_address()),
                                              blob_of(transport_.export_region(kIncoming)), incarnation_, true});
  }
}

void KvPort::open(std::uint32_t node, Path& path, const TransportHello& said) {
  // A peer that was closed may not have told its end yet: every opening has an id of its own.
  path.peer = EndpointId{++endpoints_};
  path.region = RegionId{kFirstRemote + endpoints_};
  path.incarnation = said.incarnation;
  const bool opened = bool(transport_.open(path.peer, bytes_of(said.address))) &&
                      bool(transport_.import_region(path.region, path.peer, bytes_of(said.region)));
  path.state = opened ? Path::State::opening : Path::State::down;
  if (opened) node_of_[path.peer] = node;
}

void KvPort::lose(std::uint32_t node, Cause cause) {
  Path& path = paths_.at(node);
  node_of_.erase(path.peer);
  transport_.close(path.peer);
  path.state = Path::State::down;
  path.asked = {};
  for (auto it = pushes_.begin(); it != pushes_.end();) {
    const auto next = std::next(it);
    if (it->second.to == node && !it->second.moved) end(it, cause);
    it = next;
  }
}

// ---- hand-offs
// --------------------------------------------------------------------------------------------------------

void KvPort::post(OpId op, std::uint32_t to_node, Bytes bytes, OpId pass) {
  Push push;
  push.id = op;
  push.to = to_node;
  push.bytes = std::clamp<std::int64_t>(bytes.v / cluster_.settings().scale, kHeader, kStripe - kUnit);
  push.pass = pass;
  push.deadline = steady_clock::now() + nanoseconds(budget_.v);
  const auto ended = std::find_if(passes_.rbegin(), passes_.rend(), [&](const auto& p) { return p.first == pass; });
  if (ended != passes_.rend()) push.passed = true;
  const auto it = pushes_.emplace(op.v, push).first;
  if (ended != passes_.rend() && !ended->second) {
    end(it, Cause::canceled);
  } else if (to_node == node_) {  // both ranks on one node: nothing leaves it
    it->second.moved = true;
    if (it->second.passed) end(it, Cause::none);
  } else if (const auto path = paths_.find(to_node); path != paths_.end() && path->second.state == Path::State::up) {
    write(it->second, path->second);
  } else {
    if (path == paths_.end() || !path->second.fell_silent)
      it->second.deadline = steady_clock::now() + std::max<nanoseconds>(kOpenMax, nanoseconds(budget_.v));
    want(to_node);
  }
}

void KvPort::write(Push& push, Path& path) {
  if (path.at + push.bytes > kStripe) path.at = 0;
  const std::int64_t there = std::int64_t{node_} * kStripe + path.at, here = std::int64_t{push.to} * kStripe + path.at;
  std::byte* at = outgoing_ + here;
  for (std::int64_t i = kHeader; i + 8 <= push.bytes; i += 8)
    put(at + i, mix64(push.id.v + static_cast<std::uint64_t>(i)));
  put(at, push.id.v);
  put(at + 8, static_cast<std::uint64_t>(push.bytes));
  put(at + 16, hash_of(at + kHeader, push.bytes - kHeader));
  push.posted = OpId{++ops_};
  const auto tag = static_cast<std::uint32_t>(path.at / kUnit) << 16 | static_cast<std::uint32_t>(push.id.v & 0xffff);
  const Status status =
      transport_.post({push.posted, path.peer, {{kOutgoing, {here}, path.region, {there}, {push.bytes}}}, tag});
  path.at = (path.at + push.bytes + kUnit - 1) / kUnit * kUnit;
  if (path.at >= kStripe) path.at = 0;
  if (status) {
    posted_[push.posted] = push.id.v;
  } else {
    push.posted = OpId{};  // no room now: tried again until the deadline
  }
}

void KvPort::check(std::uint32_t from, std::uint32_t tag) {
  const std::int64_t offset = std::int64_t{from} * kStripe + std::int64_t{tag >> 16} * kUnit;
  const std::byte* at = region_ + offset;
  const auto bytes = static_cast<std::int64_t>(get(at + 8));
  Board& board = cluster_.board();
  // Overwritten by a later one before we came: nothing can be said.
  if ((get(at) & 0xffff) != (tag & 0xffff) || bytes < kHeader || bytes > kStripe - std::int64_t{tag >> 16} * kUnit)
    return;
  if (hash_of(at + kHeader, bytes - kHeader) == get(at + 16)) ++board.kv_checked;
  else ++board.kv_wrong;
}

void KvPort::cancel(OpId op) {
  const auto it = pushes_.find(op.v);
  if (it == pushes_.end()) return;
  if (it->second.posted.valid()) {
    posted_.erase(it->second.posted);
    transport_.cancel(it->second.posted);
  }
  end(it, Cause::canceled);
}

void KvPort::pass_ended(OpId pass, bool done) {
  passes_.emplace_back(pass, done);
  if (passes_.size() > kPassesKept) passes_.pop_front();
  for (auto it = pushes_.begin(); it != pushes_.end();) {
    const auto next = std::next(it);
    if (it->second.pass == pass) {
      it->second.passed = true;
      if (!done) end(it, Cause::canceled);
      else if (it->second.moved) end(it, Cause::none);
    }
    it = next;
  }
}

void KvPort::end(std::map<std::uint64_t, Push>::iterator it, Cause cause) {
  ended_.push_back({it->second.id, cause});
  pushes_.erase(it);
}

// ---- progress
// ---------------------------------------------------------------------------------------------------------

void KvPort::work(Time now) {
  std::array<TransportEvent, 32> events;
  for (std::size_t count = 0; (count = transport_.poll(events)) > 0;) {
    for (std::size_t i = 0; i < count; ++i) {
      const TransportEvent& e = events[i];
      if (const auto* up = std::get_if<EndpointUp>(&e)) {
        const auto node = node_of_.find(up->peer);
        if (node == node_of_.end()) continue;
        paths_[node->second].state = Path::State::up;
        paths_[node->second].fell_silent = false;
      } else if (const auto* down = std::get_if<EndpointDown>(&e)) {
        const auto node = node_of_.find(down->peer);
        if (node == node_of_.end()) continue;
        Path& path = paths_[node->second];
        path.fell_silent = path.state == Path::State::up;
        lose(node->second, down->cause);
      } else if (const auto* told = std::get_if<Notified>(&e)) {
        if (const auto node = node_of_.find(told->from); node != node_of_.end()) check(node->second, told->tag);
      } else {
        const auto* done = std::get_if<OpCompleted>(&e);
        const auto* failed = std::get_if<OpFailed>(&e);
        const auto posted = posted_.find(done ? done->op : failed->op);
        if (posted == posted_.end()) continue;
        const auto it = pushes_.find(posted->second);
        posted_.erase(posted);
        if (it == pushes_.end()) continue;
        if (failed) {
          end(it, failed->cause);
          continue;
        }
        ++cluster_.board().kv_pushes;
        cluster_.board().kv_bytes += static_cast<std::uint64_t>(it->second.bytes);
        it->second.moved = true;
        if (it->second.passed) end(it, Cause::none);
      }
    }
  }
  for (auto it = pushes_.begin(); it != pushes_.end();) {
    const auto next = std::next(it);
    Push& push = it->second;
    if (!push.moved && !push.posted.valid()) {
      Path& path = paths_[push.to];
      if (path.state == Path::State::up) write(push, path);
      else if (now >= push.deadline) end(it, Cause::peer_lost);
    }
    it = next;
  }
}

KvPort::Time KvPort::next_work() const {
  Time next = Time::max();
  for (const auto& [id, push] : pushes_) {
    if (!push.moved && !push.posted.valid()) next = std::min(next, push.deadline);
  }
  return next;
}

}  // namespace faultline::live
