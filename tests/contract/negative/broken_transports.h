// Transports that break one promise each. The negative suite demands that the contract suite notices.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <set>

#include "core/ports/clock.h"
#include "core/ports/transport.h"

namespace faultline::contract {

/// Passes everything on; a broken transport overrides one thing.
class PassingTransport : public Transport {
 public:
  explicit PassingTransport(Transport& inner) : inner_(&inner) {}
  TransportLimits limits() const override { return inner_->limits(); }
  std::vector<std::byte> local_address() const override { return inner_->local_address(); }
  Status open(EndpointId peer, std::span<const std::byte> address) override { return inner_->open(peer, address); }
  void close(EndpointId peer) override { inner_->close(peer); }
  Status register_memory(RegionId region, std::span<std::byte> memory) override {
    return inner_->register_memory(region, memory);
  }
  Status deregister(RegionId region) override { return inner_->deregister(region); }
  std::vector<std::byte> export_region(RegionId region) const override { return inner_->export_region(region); }
  Status import_region(RegionId region, EndpointId owner, std::span<const std::byte> blob) override {
    return inner_->import_region(region, owner, blob);
  }
  Status post(const WriteBatch& batch) override { return inner_->post(batch); }
  void cancel(OpId op) override { inner_->cancel(op); }
  std::size_t poll(std::span<TransportEvent> out) override {
    std::array<TransportEvent, 64> batch{};
    for (std::size_t count = 0; (count = inner_->poll(batch)) > 0;) {
      for (std::size_t i = 0; i < count; ++i) take(batch[i]);
    }
    const std::size_t count = std::min(out.size(), ready_.size());
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = ready_.front();
      ready_.pop_front();
    }
    return count;
  }

 protected:
  virtual void take(const TransportEvent& event) { ready_.push_back(event); }
  Transport* inner_;
  std::deque<TransportEvent> ready_;
};

/// Sends the notify ahead of the bytes.
class NotifiesEarly final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  Status post(const WriteBatch& batch) override {
    if (!batch.notify || batch.spans.empty()) return inner_->post(batch);
    WriteBatch notify{OpId{(1ULL << 60) + extra_++}, batch.peer, {}, batch.notify};
    if (Status status = inner_->post(notify); !status) return status;
    WriteBatch bytes = batch;
    bytes.notify.reset();
    return inner_->post(bytes);
  }
  void take(const TransportEvent& event) override {
    const auto* done = std::get_if<OpCompleted>(&event);
    const auto* lost = std::get_if<OpFailed>(&event);
    if ((done && done->op.v >> 60 == 1) || (lost && lost->op.v >> 60 == 1)) return;
    ready_.push_back(event);
  }

 private:
  std::uint64_t extra_ = 0;
};

/// Repeats every 50th completion.
class CompletesTwice final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  void take(const TransportEvent& event) override {
    ready_.push_back(event);
    if (std::holds_alternative<OpCompleted>(event) && ++count_ % 50 == 0) ready_.push_back(event);
  }

 private:
  int count_ = 0;
};

/// Forgets the completion of a batch whose op id ends in 0x1f.
class ForgetsACompletion final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  void take(const TransportEvent& event) override {
    const auto* done = std::get_if<OpCompleted>(&event);
    if (!done || done->op.v % 32 != 31) ready_.push_back(event);
  }
};

/// Says EndpointDown before the terminal events of the peer's operations.
class DeliversAfterDown final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  void take(const TransportEvent& event) override {
    if (std::holds_alternative<EndpointDown>(event)) ready_.push_front(event);
    else ready_.push_back(event);
  }
};

/// Writes up to 16 bytes past each span that has room behind it.
class WritesPastASpan final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  Status post(const WriteBatch& batch) override {
    WriteBatch longer = batch;
    for (WriteSpan& span : longer.spans) {
      if (span.length.v > 0) span.length += Bytes{16};
    }
    Status status = inner_->post(longer);
    if (status) lengths_[batch.op] = batch;
    return status ? ok() : inner_->post(batch);
  }
  void take(const TransportEvent& event) override {
    const auto* done = std::get_if<OpCompleted>(&event);
    const auto it = done ? lengths_.find(done->op) : lengths_.end();
    if (it == lengths_.end()) return ready_.push_back(event);
    Bytes sum{};
    for (const WriteSpan& span : it->second.spans) sum += span.length;
    ready_.push_back(OpCompleted{done->op, sum});
  }

 private:
  std::map<OpId, WriteBatch> lengths_;
};

/// Reports completion when the batch was accepted, not when it is visible.
class CompletesOnPost final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  Status post(const WriteBatch& batch) override {
    const Status status = inner_->post(batch);
    if (!status) return status;
    Bytes sum{};
    for (const WriteSpan& span : batch.spans) sum += span.length;
    ready_.push_back(OpCompleted{batch.op, sum});
    return ok();
  }
  void take(const TransportEvent& event) override {
    if (!std::holds_alternative<OpCompleted>(event) && !std::holds_alternative<OpFailed>(event))
      ready_.push_back(event);
  }
};

/// Notifies twice.
class NotifiesTwice final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  void take(const TransportEvent& event) override {
    ready_.push_back(event);
    if (std::holds_alternative<Notified>(event)) ready_.push_back(event);
  }
};

/// Keeps nothing that does not fit into the caller's buffer.
class LosesWhatDoesNotFit final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  std::size_t poll(std::span<TransportEvent> out) override {
    const std::size_t count = PassingTransport::poll(out);
    ready_.clear();
    return count;
  }
};

/// Waits for ever on a broken path: no failure, no EndpointDown.
class NeverGivesUp final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  void take(const TransportEvent& event) override {
    const auto* lost = std::get_if<OpFailed>(&event);
    const auto* down = std::get_if<EndpointDown>(&event);
    if ((lost && lost->cause != Cause::canceled) || (down && down->cause != Cause::canceled)) return;
    ready_.push_back(event);
  }
};

/// Cuts spans that are out of range instead of refusing them.
class ClampsRanges final : public PassingTransport {
 public:
  using PassingTransport::PassingTransport;
  Status post(const WriteBatch& batch) override {
    Status status = inner_->post(batch);
    if (status || status.cause() != Cause::protection) return status;
    WriteBatch shorter = batch;
    for (WriteSpan& span : shorter.spans) span.length = {std::clamp<std::int64_t>(span.length.v, 0, 8)};
    return inner_->post(shorter);
  }
};

}  // namespace faultline::contract
