// The protocol between two transports over one or more byte streams: batches out as data frames dealt over the streams,
// data in straight to its destination after its key and range were checked, cumulative acks back, heartbeats.
// Owned by the progress thread; the only thing shared with other threads is the RegionTable.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/transport/frame.h"
#include "backend/transport/plan.h"
#include "backend/transport/stream.h"
#include "core/ports/transport.h"

namespace faultline::transport {

/// Keys of the memory that peers may write. The progress thread holds the lock while bytes land, so that after remove()
/// nothing lands in the region any more.
class RegionTable {
 public:
  void add(std::uint64_t key, std::span<std::byte> memory) {
    const std::lock_guard lock(mutex_);
    regions_[key] = memory;
  }
  void remove(std::uint64_t key) {
    ++waiting_;
    const std::lock_guard lock(mutex_);
    --waiting_;
    regions_.erase(key);
  }
  std::mutex& mutex() { return mutex_; }
  /// With the lock held. nullptr: no such key, or out of its range.
  std::byte* find(std::uint64_t key, std::uint64_t offset, std::uint64_t length) const {
    const auto it = regions_.find(key);
    if (it == regions_.end() || offset > it->second.size() || length > it->second.size() - offset) return nullptr;
    return it->second.data() + offset;
  }
  /// Somebody waits for the lock: a mutex is not fair, so a busy progress thread steps aside.
  bool wanted() const { return waiting_.load(std::memory_order_relaxed) > 0; }

 private:
  std::mutex mutex_;
  std::atomic<int> waiting_{0};
  std::unordered_map<std::uint64_t, std::span<std::byte>> regions_;
};

/// A batch ready to go: source pointers and remote keys resolved by post().
struct Outgoing {
  struct Part {
    std::uint64_t key = 0;
    std::uint64_t offset = 0;
    std::int64_t length = 0;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::uint32_t queue = 0;
  };
  /// The shared memory that a source lies in.
  struct Origin {
    std::uint64_t number = 0;  // 0: in none
    int memory = -1;
    std::uint64_t offset = 0;  // of the source in it
  };
  OpId op;
  std::optional<std::uint32_t> notify;
  std::vector<iovec> sources;
  std::vector<Origin> origins;  // of each source; empty if no source is shared
  std::vector<Part> parts;
  std::int64_t bytes = 0;
  std::uint32_t unsent = 0;  // parts
};

/// What the session found out, for the owner's Book.
struct SessionEvent {
  enum class Kind : std::uint8_t { ready, done, failed, notified } kind;
  OpId op;
  Cause cause = Cause::none;
  std::uint32_t tag = 0;
};

struct SessionSettings {
  std::uint32_t peer_ops_max = 64;       // what the peer announced: bounds the books about it
  std::int64_t backlog_bytes = 4 << 20;  // per stream: batches beyond wait and can still be canceled
};

class Session {
 public:
  Session(RegionTable& regions, const SessionSettings& settings, std::vector<std::unique_ptr<Stream>> streams);
  ~Session();

  void submit(std::unique_ptr<Outgoing> batch) { waiting_.push_back(std::move(batch)); }
  /// True if it had not started: it is gone and its source is not read any more.
  bool cancel(OpId op);
  void send_ready() { control(0, {.type = FrameType::ready}); }
  void send_ping() { control(0, {.type = FrameType::ping, .sequence = ++pings_}); }

  /// Reads and writes as much as a fair share allows. Cause::none, or why the session is over (protection: the peer
  /// does not keep to the protocol). `more` is set if there was more to do.
  Cause pump(bool& more);
  bool may_sleep();
  /// A descriptor of a stream fired.
  void woken(std::size_t stream) { streams_[stream].stream->woken(); }
  void abandon();
  Cause cause_of_silence() const { return streams_[0].stream->cause_of_silence(); }
  /// Grows with every byte heard; the owner compares.
  std::uint64_t heard() const { return heard_; }
  std::vector<SessionEvent> take_events() { return std::exchange(events_, {}); }
  std::size_t stream_count() const { return streams_.size(); }
  const Stream& stream(std::size_t i) const { return *streams_[i].stream; }

 private:
  struct OutFrame {
    std::array<std::byte, kFrameBytes> header;
    Outgoing* batch = nullptr;  // for data
    const Outgoing::Part* part = nullptr;
    std::size_t sent = 0;
    std::size_t size = kFrameBytes;
    std::vector<SharedPiece> pieces = {};  // instead of the bytes
  };
  struct Line {  // a stream and its state
    std::unique_ptr<Stream> stream;
    std::deque<OutFrame> out;
    std::int64_t backlog = 0;  // bytes in out
    bool blocked = false;      // the last write did not take everything
    std::vector<std::byte> staging;
    std::size_t staged = 0;  // valid bytes in staging
    // The frame whose payload is coming in.
    bool in_payload = false;
    Frame frame;
    std::size_t payload_done = 0;
    bool landing = false;             // false: refused, the payload is thrown away
    std::vector<SharedPiece> pieces;  // payload of a shared frame
    std::size_t copied = 0;           // from shared memory, in this turn
  };
  struct Incoming {
    std::uint32_t parts_left = 0;
    Cause refused = Cause::none;
    std::optional<std::uint32_t> notify;
  };

  void control(std::size_t line, const Frame& frame);
  void start_waiting();
  void start(std::unique_ptr<Outgoing> batch);
  Cause write_line(Line& line, bool& more);
  Cause read_line(std::size_t index, bool& more);
  Cause parse(std::size_t index, std::size_t& used);
  Cause begin_data(Line& line);
  bool share_part(Line& line, const Outgoing& batch, const Outgoing::Part& part, std::vector<SharedPiece>& pieces);
  Cause land_shared(Line& line);
  Cause end_part(const Frame& frame);
  Cause handle(std::size_t index, const Frame& frame);

  RegionTable* regions_;
  SessionSettings settings_;
  std::vector<Line> streams_;
  std::deque<std::unique_ptr<Outgoing>> waiting_;
  std::map<std::uint64_t, std::unique_ptr<Outgoing>> sent_;  // by sequence, not yet acknowledged
  std::uint64_t next_sequence_ = 0;
  std::uint64_t acknowledged_ = 0;  // by the peer: everything below
  std::uint64_t pings_ = 0;
  std::uint32_t rotation_ = 0;
  std::set<std::uint64_t> shared_;  // numbers that the peer has

  std::map<std::uint64_t, Incoming> incoming_;
  std::uint64_t ended_ = 0;              // every incoming batch below has ended
  std::set<std::uint64_t> ended_early_;  // above it
  bool ack_due_ = false;
  std::uint64_t heard_ = 0;
  std::vector<SessionEvent> events_;
};

}  // namespace faultline::transport
