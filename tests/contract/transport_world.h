// What a transport implementation offers to the suite (TransportWorld), and the notebook of a clause (Link): two sides,
// every event they reported, and the checks that hold at all times: one terminal event per operation, none for unknown
// ones, nothing from a peer that is down, EndpointDown after the terminal events.
#pragma once

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/random.h"
#include "core/ports/transport.h"
#include "tests/contract/verdict.h"

namespace faultline::contract {

class TransportWorld {
 public:
  virtual ~TransportWorld() = default;
  /// Side 0 and side 1: two processes in all but name.
  virtual Transport& transport(int side) = 0;
  /// Ends that side's transport without a close(), as the death of its process would.
  virtual void destroy(int side) = 0;
  /// Lets time pass until done() or until the budget is used up; returns done(). Virtual time jumps, real time waits.
  virtual bool run_until(const std::function<bool()>& done, Duration budget) = 0;
  /// Both directions lose everything from now on; nobody is told.
  virtual void break_route() = 0;
  virtual void mend_route() = 0;
  /// Not empty: this world has no route to break (memory of one host) and why; clauses that need one are skipped.
  virtual std::string unbreakable() const { return {}; }
  virtual Instant now() = 0;
  /// Memory that register_memory() of that side accepts; valid as long as the world.
  virtual std::span<std::byte> memory(int side, std::size_t bytes) {
    (void)side;
    blocks_.push_back(std::make_unique<std::byte[]>(bytes));
    return {blocks_.back().get(), bytes};
  }
  /// A simulated transport may price bytes without moving them: contents are then not checked.
  virtual bool moves_bytes() const { return true; }
  /// Real machines are late: added to every budget of the contract. 0 in virtual time, up to one transfer's duration.
  virtual Duration slack() const { return Duration{1'000'000}; }
  /// Operations of the random test; its seed.
  virtual std::uint64_t random_operations() const { return 2'000; }
  virtual std::uint64_t seed() const { return 1; }

 protected:
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
};

inline constexpr Duration kPatience{20'000'000'000};  // only a failing implementation waits this long

/// One side of the link as its owner sees it.
struct Side {
  EndpointId peer;                // the id under which this side knows the other
  std::map<OpId, bool> accepted;  // true once the terminal event came
  std::vector<OpCompleted> completed;
  std::vector<OpFailed> failed;
  std::vector<std::uint32_t> notified;
  bool up = false;
  std::optional<Cause> down;
  int ups = 0;
  int downs = 0;
  std::function<void(std::uint32_t)> on_notified;
  std::function<void(const TransportEvent&)> on_event;

  std::size_t unfinished() const {
    std::size_t count = 0;
    for (const auto& [op, done] : accepted) count += done ? 0 : 1;
    return count;
  }
};

class Link {
 public:
  Link(TransportWorld& world, Verdict& verdict) : world_(&world), verdict_(&verdict) {
    sides_[0].peer = EndpointId{11};
    sides_[1].peer = EndpointId{22};
  }

  TransportWorld& world() { return *world_; }
  Verdict& verdict() { return *verdict_; }
  Side& side(int i) { return sides_[static_cast<std::size_t>(i)]; }
  Transport& transport(int i) { return world_->transport(i); }

  /// Both sides open each other and come up.
  bool open() {
    for (int i : {0, 1}) {
      side(i).up = false;
      side(i).down.reset();
      const Status status = transport(i).open(side(i).peer, transport(1 - i).local_address());
      verdict_->expect(bool(status), "side {} cannot open: {}", i, name_of(status.cause()));
    }
    return verdict_->expect(run_until([this] { return side(0).up && side(1).up; }), "EndpointUp did not come");
  }

  /// Registers `bytes` at both sides under `region` and imports them crosswise under `imported`.
  bool share(RegionId region, RegionId imported, std::size_t bytes) {
    for (int i : {0, 1}) {
      const auto memory = world_->memory(i, bytes);
      memory_[static_cast<std::size_t>(i)][region] = memory;
      std::memset(memory.data(), 0, memory.size());
      const Status status = transport(i).register_memory(region, memory);
      if (!verdict_->expect(bool(status), "side {} cannot register: {}", i, name_of(status.cause()))) return false;
    }
    return import(region, imported);
  }
  bool import(RegionId region, RegionId imported) {
    for (int i : {0, 1}) {
      const Status status = transport(i).import_region(imported, side(i).peer, transport(1 - i).export_region(region));
      if (!verdict_->expect(bool(status), "side {} cannot import: {}", i, name_of(status.cause()))) return false;
    }
    return true;
  }
  std::span<std::byte> memory(int i, RegionId region) { return memory_[static_cast<std::size_t>(i)].at(region); }

  OpId next_op() { return OpId{next_op_++}; }
  Status post(int i, const WriteBatch& batch) {
    // What this thread did to either side's memory is before what the batch does to it. Sockets order the two, but
    // ThreadSanitizer cannot see that; the locks inside the two transports it can.
    for (int k : {0, 1}) {
      if (!gone_[static_cast<std::size_t>(k)]) static_cast<void>(transport(k).limits());
    }
    const Status status = transport(i).post(batch);
    if (status) side(i).accepted[batch.op] = false;
    return status;
  }
  /// Posts from the side; the batch is expected to be accepted.
  OpId write(int i, std::vector<WriteSpan> spans, std::optional<std::uint32_t> notify = {}) {
    const OpId op = next_op();
    const Status status = post(i, {op, side(i).peer, std::move(spans), notify});
    verdict_->expect(bool(status), "op {} refused: {}", op.v, name_of(status.cause()));
    return op;
  }

  bool run_until(const std::function<bool()>& done, Duration budget = kPatience) {
    return world_->run_until([&] { return collect(), done(); }, budget);
  }
  bool finish_all(Duration budget = kPatience) {
    const bool done = run_until([this] { return side(0).unfinished() + side(1).unfinished() == 0; }, budget);
    return verdict_->expect(done, "{} and {} operations have no terminal event", side(0).unfinished(),
                            side(1).unfinished());
  }
  /// Lets a little more than the failure budget pass: whatever was going to come has come.
  void settle() {
    const Duration wait = transport_alive().limits().failure_budget * 6 / 5;
    const Instant end = world_->now() + wait;
    run_until([&] { return world_->now() >= end; }, wait + kPatience);
  }
  void set_gone(int i) { gone_[static_cast<std::size_t>(i)] = true; }
  /// Events taken at once per side; 0 takes what comes with 64.
  void set_poll_size(std::size_t size) { poll_size_ = size; }

  bool completed(int i, OpId op) {
    for (const OpCompleted& done : side(i).completed) {
      if (done.op == op) return true;
    }
    return false;
  }
  std::optional<Cause> failure(int i, OpId op) {
    for (const OpFailed& lost : side(i).failed) {
      if (lost.op == op) return lost.cause;
    }
    return {};
  }

  void collect() {
    for (int i : {0, 1}) {
      if (gone_[static_cast<std::size_t>(i)]) continue;
      std::array<TransportEvent, 64> out{};
      const std::span<TransportEvent> room(out.data(), poll_size_);
      const std::size_t count = transport(i).poll(room);
      if (!verdict_->expect(count <= room.size(), "poll wrote {} events into {}", count, room.size())) return;
      for (std::size_t k = 0; k < count; ++k) {
        note(i, out[k]);
        if (side(i).on_event) side(i).on_event(out[k]);
      }
    }
  }

 private:
  Transport& transport_alive() { return transport(gone_[0] ? 1 : 0); }
  void terminal(int i, OpId op) {
    const auto it = side(i).accepted.find(op);
    if (!verdict_->expect(it != side(i).accepted.end(), "side {}: terminal event of op {}, which was never accepted", i,
                          op.v))
      return;
    verdict_->expect(!it->second, "side {}: second terminal event of op {}", i, op.v);
    verdict_->expect(!side(i).down, "side {}: terminal event of op {} after EndpointDown", i, op.v);
    it->second = true;
  }
  void note(int i, const TransportEvent& event) {
    Side& s = side(i);
    if (const auto* e = std::get_if<OpCompleted>(&event)) {
      terminal(i, e->op);
      s.completed.push_back(*e);
    } else if (const auto* e2 = std::get_if<OpFailed>(&event)) {
      terminal(i, e2->op);
      verdict_->expect(e2->cause != Cause::none, "op {} failed without a cause", e2->op.v);
      s.failed.push_back(*e2);
    } else if (const auto* e3 = std::get_if<Notified>(&event)) {
      verdict_->expect(e3->from == s.peer, "side {}: Notified from endpoint {}, which it never opened", i, e3->from.v);
      verdict_->expect(s.up && !s.down, "side {}: Notified while the peer is not up", i);
      s.notified.push_back(e3->tag);
      if (s.on_notified) s.on_notified(e3->tag);
    } else if (const auto* e4 = std::get_if<EndpointUp>(&event)) {
      verdict_->expect(e4->peer == s.peer, "side {}: EndpointUp of endpoint {}", i, e4->peer.v);
      verdict_->expect(!s.up && !s.down, "side {}: EndpointUp twice or after EndpointDown", i);
      s.up = true;
      ++s.ups;
    } else if (const auto* e5 = std::get_if<EndpointDown>(&event)) {
      verdict_->expect(e5->peer == s.peer, "side {}: EndpointDown of endpoint {}", i, e5->peer.v);
      verdict_->expect(!s.down, "side {}: EndpointDown twice", i);
      verdict_->expect(s.unfinished() == 0, "side {}: EndpointDown before {} terminal events", i, s.unfinished());
      s.down = e5->cause;
      ++s.downs;
    }
  }

  TransportWorld* world_;
  Verdict* verdict_;
  std::array<Side, 2> sides_;
  std::array<std::map<RegionId, std::span<std::byte>>, 2> memory_;
  std::array<bool, 2> gone_{};
  std::size_t poll_size_ = 64;
  std::uint64_t next_op_ = 1;
};

/// Bytes that depend on the seed and on every position, so that a shifted, torn or repeated copy shows.
inline void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(mix64(seed * 0x10001 + i / 8) >> (8 * (i % 8)));
}
inline bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}
inline bool all_zero(std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) {
    if (b != std::byte{0}) return false;
  }
  return true;
}

}  // namespace faultline::contract
