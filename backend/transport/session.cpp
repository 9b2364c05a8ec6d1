#include "backend/transport/session.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "backend/transport/far_copy.h"
#include "core/base/assert.h"

namespace faultline::transport {
namespace {

constexpr std::size_t kStagingBytes = 64 << 10;
constexpr std::size_t kDirectBytes = 16 << 10;  // a rest of payload at least this long is read straight to its place
constexpr std::int64_t kShareBytes = 32 << 10;  // a part at least this long is read from shared memory if it lies there
constexpr std::size_t kIovecsMax = 64;
constexpr std::size_t kTurnBytes = 4 << 20;  // per stream and direction in one pump, so that no stream starves another

}  // namespace

Session::Session(RegionTable& regions, const SessionSettings& settings, std::vector<std::unique_ptr<Stream>> streams)
    : regions_(&regions), settings_(settings) {
  FAULTLINE_ASSERT(!streams.empty());
  for (auto& stream : streams) {
    streams_.emplace_back();
    streams_.back().stream = std::move(stream);
    streams_.back().staging.resize(kStagingBytes);
  }
}

Session::~Session() = default;

bool Session::cancel(OpId op) {
  const auto it = std::find_if(waiting_.begin(), waiting_.end(), [op](const auto& batch) { return batch->op == op; });
  if (it == waiting_.end()) return false;
  waiting_.erase(it);
  return true;
}

void Session::abandon() {
  for (Line& line : streams_) line.stream->abandon();
}

bool Session::may_sleep() {
  bool sleep = true;
  for (Line& line : streams_) sleep = line.stream->may_sleep(!line.out.empty()) && sleep;
  return sleep;
}

// ---- out
// --------------------------------------------------------------------------------------------------------------

void Session::control(std::size_t line, const Frame& frame) {
  OutFrame out{.header = encode(frame), .batch = nullptr, .part = nullptr, .sent = 0, .size = kFrameBytes};
  auto& queue = streams_[line].out;
  // Ahead of data that has not begun: an ack must not wait behind megabytes of the other direction.
  auto at = queue.begin();
  while (at != queue.end() && (at->sent > 0 || !at->batch)) ++at;
  queue.insert(at, out);
}

void Session::start(std::unique_ptr<Outgoing> batch) {
  const std::uint64_t sequence = next_sequence_++;
  Outgoing* raw = batch.get();
  // A batch that is not striped goes to the line with the least to do, others spread from there.
  std::size_t base = rotation_++ % streams_.size();
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (streams_[i].backlog < streams_[base].backlog) base = i;
  }
  Frame frame{.type = FrameType::data,
              .flags = static_cast<std::uint8_t>(batch->notify ? kNotifyFlag : 0),
              .sequence = sequence,
              .tag = batch->notify.value_or(0),
              .parts = static_cast<std::uint32_t>(std::max<std::size_t>(1, batch->parts.size()))};
  if (batch->parts.empty()) {
    frame.flags |= kEmptyFlag;
    batch->unsent = 1;
    streams_[base].out.push_back(
        {.header = encode(frame), .batch = raw, .part = nullptr, .sent = 0, .size = kFrameBytes});
  } else {
    batch->unsent = static_cast<std::uint32_t>(batch->parts.size());
    for (const Outgoing::Part& part : batch->parts) {
      frame.length = static_cast<std::uint32_t>(part.length);
      frame.key = part.key;
      frame.offset = part.offset;
      Line& line = streams_[(base + part.queue) % streams_.size()];
      std::vector<SharedPiece> pieces;
      Frame head = frame;
      if (share_part(line, *raw, part, pieces)) {
        head.flags |= kSharedFlag;
        head.length = static_cast<std::uint32_t>(pieces.size() * sizeof(SharedPiece));
      }
      const std::size_t size = kFrameBytes + head.length;
      line.out.push_back(
          {.header = encode(head), .batch = raw, .part = &part, .sent = 0, .size = size, .pieces = std::move(pieces)});
      line.backlog += static_cast<std::int64_t>(size);
    }
  }
  sent_.emplace(sequence, std::move(batch));
}

/// Large parts whose sources all lie in shared memory are not copied: the receiver gets to know where they are.
bool Session::share_part(Line& line, const Outgoing& batch, const Outgoing::Part& part,
                         std::vector<SharedPiece>& pieces) {
  if (batch.origins.empty() || part.length < kShareBytes || part.count > kPiecesMax) return false;
  for (std::uint32_t k = part.first; k < part.first + part.count; ++k) {
    const Outgoing::Origin& origin = batch.origins[k];
    if (origin.number == 0) return false;
    if (!shared_.contains(origin.number)) {
      if (!line.stream->share(origin.number, origin.memory)) return false;
      shared_.insert(origin.number);
    }
    pieces.push_back({origin.number, origin.offset, batch.sources[k].iov_len});
  }
  return true;
}

void Session::start_waiting() {
  while (!waiting_.empty()) {
    const auto idlest = std::min_element(streams_.begin(), streams_.end(),
                                         [](const Line& a, const Line& b) { return a.backlog < b.backlog; });
    if (idlest->backlog >= settings_.backlog_bytes) return;
    auto batch = std::move(waiting_.front());
    waiting_.pop_front();
    start(std::move(batch));
  }
}

Cause Session::write_line(Line& line, bool& more) {
  std::array<iovec, kIovecsMax> parts;
  std::size_t turn = 0;
  while (!line.out.empty()) {
    if (turn >= kTurnBytes) {
      more = true;
      return Cause::none;
    }
    std::size_t count = 0;
    std::size_t offered = 0;
    const auto offer = [&](const void* at, std::size_t length, std::size_t& skip) {
      if (skip >= length) {
        skip -= length;
        return;
      }
      parts[count++] = {const_cast<char*>(static_cast<const char*>(at)) + skip, length - skip};
      offered += length - skip;
      skip = 0;
    };
    for (auto it = line.out.begin(); it != line.out.end() && count < kIovecsMax && offered < (1U << 20); ++it) {
      std::size_t skip = it->sent;
      offer(it->header.data(), kFrameBytes, skip);
      if (!it->pieces.empty() && count < kIovecsMax) {
        offer(it->pieces.data(), it->pieces.size() * sizeof(SharedPiece), skip);
        continue;
      }
      for (std::uint32_t k = 0; it->part && k < it->part->count && count < kIovecsMax; ++k) {
        const iovec& source = it->batch->sources[it->part->first + k];
        offer(source.iov_base, source.iov_len, skip);
      }
    }
    const StreamResult result = line.stream->write({parts.data(), count});
    if (result.cause != Cause::none) return result.cause;
    turn += result.bytes;
    for (std::size_t left = result.bytes; left > 0;) {
      OutFrame& front = line.out.front();
      const std::size_t piece = std::min(left, front.size - front.sent);
      front.sent += piece;
      left -= piece;
      if (front.sent < front.size) break;
      if (front.part) line.backlog -= static_cast<std::int64_t>(front.size);
      if (front.batch) --front.batch->unsent;
      line.out.pop_front();
    }
    line.blocked = result.bytes < offered;
    if (line.blocked) return Cause::none;
  }
  return Cause::none;
}

// ---- in
// ---------------------------------------------------------------------------------------------------------------

Cause Session::begin_data(Line& line) {
  const Frame& frame = line.frame;
  const bool known = frame.sequence < ended_ || ended_early_.contains(frame.sequence);
  if (known) return Cause::protection;  // a replay of something that has ended
  auto it = incoming_.find(frame.sequence);
  if (it == incoming_.end()) {
    if (incoming_.size() >= settings_.peer_ops_max || ended_early_.size() > settings_.peer_ops_max)
      return Cause::protection;
    it = incoming_.emplace(frame.sequence, Incoming{.parts_left = frame.parts, .refused = Cause::none, .notify = {}})
             .first;
    if ((frame.flags & kNotifyFlag) != 0) it->second.notify = frame.tag;
  }
  line.payload_done = 0;
  line.in_payload = frame.length > 0;
  if ((frame.flags & kEmptyFlag) != 0) return Cause::none;
  if ((frame.flags & kSharedFlag) != 0) {
    line.landing = false;
    line.pieces.resize(frame.length / sizeof(SharedPiece));
    return Cause::none;
  }
  const std::lock_guard lock(regions_->mutex());
  line.landing = regions_->find(frame.key, frame.offset, frame.length) != nullptr;
  if (!line.landing) it->second.refused = Cause::protection;
  return Cause::none;
}

/// Copies what a shared frame names, piece by piece, each after the same checks as bytes that come by the stream.
Cause Session::land_shared(Line& line) {
  const Frame& frame = line.frame;
  std::uint64_t total = 0;
  for (const SharedPiece& piece : line.pieces) {
    if (piece.length > kPayloadMax || (total += piece.length) > kPayloadMax) return Cause::protection;
  }
  std::uint64_t done = 0;
  for (const SharedPiece& piece : line.pieces) {
    const auto memory = line.stream->shared(piece.memory);
    if (piece.offset > memory.size() || piece.length > memory.size() - piece.offset) return Cause::protection;
    if (regions_->wanted()) std::this_thread::yield();
    const std::lock_guard lock(regions_->mutex());
    std::byte* place = regions_->find(frame.key, frame.offset, total);
    if (!place) {
      incoming_.at(frame.sequence).refused = Cause::protection;
      return Cause::none;
    }
    far_copy(place + done, memory.data() + piece.offset, piece.length);
    done += piece.length;
  }
  line.copied += done;
  // A sender that ended this session may have changed its memory while it was read; then nobody may be notified.
  return line.stream->still_there() ? Cause::none : Cause::peer_lost;
}

Cause Session::end_part(const Frame& frame) {
  const auto it = incoming_.find(frame.sequence);
  FAULTLINE_ASSERT(it != incoming_.end(), "sequence={}", frame.sequence);
  if (--it->second.parts_left > 0) return Cause::none;
  if (it->second.refused != Cause::none) {
    control(
        0,
        {.type = FrameType::nack, .sequence = frame.sequence, .tag = static_cast<std::uint32_t>(it->second.refused)});
  } else if (it->second.notify) {
    events_.push_back(
        {.kind = SessionEvent::Kind::notified, .op = {}, .cause = Cause::none, .tag = *it->second.notify});
  }
  incoming_.erase(it);
  ended_early_.insert(frame.sequence);
  while (!ended_early_.empty() && *ended_early_.begin() == ended_) {
    ended_early_.erase(ended_early_.begin());
    ++ended_;
    ack_due_ = true;
  }
  return Cause::none;
}

Cause Session::handle(std::size_t index, const Frame& frame) {
  switch (frame.type) {
    case FrameType::ready: events_.push_back({.kind = SessionEvent::Kind::ready, .op = {}}); return Cause::none;
    case FrameType::ping: control(index, {.type = FrameType::pong, .sequence = frame.sequence}); return Cause::none;
    case FrameType::pong: return frame.sequence <= pings_ ? Cause::none : Cause::protection;
    case FrameType::ack:
      if (frame.sequence > next_sequence_ || frame.sequence < acknowledged_) return Cause::protection;
      acknowledged_ = frame.sequence;
      while (!sent_.empty() && sent_.begin()->first < acknowledged_) {
        if (sent_.begin()->second->unsent > 0) return Cause::protection;  // acknowledged before it was sent
        events_.push_back({.kind = SessionEvent::Kind::done, .op = sent_.begin()->second->op});
        sent_.erase(sent_.begin());
      }
      return Cause::none;
    case FrameType::nack: {
      const auto it = sent_.find(frame.sequence);
      if (it == sent_.end() || it->second->unsent > 0) return Cause::protection;
      events_.push_back(
          {.kind = SessionEvent::Kind::failed, .op = it->second->op, .cause = static_cast<Cause>(frame.tag)});
      sent_.erase(it);
      return Cause::none;
    }
    case FrameType::data: break;
  }
  return Cause::protection;
}

/// Takes whole frames, and what there is of a payload, out of the staging buffer.
Cause Session::parse(std::size_t index, std::size_t& used) {
  Line& line = streams_[index];
  while (used < line.staged) {
    if (line.in_payload) {
      const std::size_t piece = std::min<std::size_t>(line.staged - used, line.frame.length - line.payload_done);
      const bool shared = (line.frame.flags & kSharedFlag) != 0;
      if (shared)
        std::memcpy(reinterpret_cast<std::byte*>(line.pieces.data()) + line.payload_done, line.staging.data() + used,
                    piece);
      if (line.landing) {
        const std::lock_guard lock(regions_->mutex());
        std::byte* place = regions_->find(line.frame.key, line.frame.offset, line.frame.length);
        if (place) {
          std::memcpy(place + line.payload_done, line.staging.data() + used, piece);
        } else {
          line.landing = false;  // deregistered meanwhile
          incoming_.at(line.frame.sequence).refused = Cause::protection;
        }
      }
      line.payload_done += piece;
      used += piece;
      if (line.payload_done < line.frame.length) return Cause::none;
      line.in_payload = false;
      if (shared) {
        if (const Cause cause = land_shared(line); cause != Cause::none) return cause;
      }
      if (const Cause cause = end_part(line.frame); cause != Cause::none) return cause;
      continue;
    }
    if (line.staged - used < kFrameBytes) return Cause::none;
    const auto frame = decode(std::span<const std::byte, kFrameBytes>(line.staging.data() + used, kFrameBytes));
    if (!frame) return Cause::protection;
    used += kFrameBytes;
    if (frame->type != FrameType::data) {
      if (const Cause cause = handle(index, *frame); cause != Cause::none) return cause;
      continue;
    }
    line.frame = *frame;
    if (const Cause cause = begin_data(line); cause != Cause::none) return cause;
    if (!line.in_payload) {
      if (const Cause cause = end_part(line.frame); cause != Cause::none) return cause;
    }
  }
  return Cause::none;
}

Cause Session::read_line(std::size_t index, bool& more) {
  Line& line = streams_[index];
  std::size_t turn = 0;
  for (;;) {
    if (turn >= kTurnBytes) {
      more = true;
      return Cause::none;
    }
    if (regions_->wanted()) std::this_thread::yield();
    const std::size_t rest = line.in_payload ? line.frame.length - line.payload_done : 0;
    StreamResult result;
    std::size_t offered = 0;
    if (rest >= kDirectBytes && line.landing && line.staged == 0) {
      // Straight to its place; behind it room for one header only, so that the next large payload goes straight too.
      const std::lock_guard lock(regions_->mutex());
      std::byte* place = regions_->find(line.frame.key, line.frame.offset, line.frame.length);
      if (!place) {
        line.landing = false;
        incoming_.at(line.frame.sequence).refused = Cause::protection;
        continue;
      }
      const std::array<iovec, 2> parts{{{place + line.payload_done, rest}, {line.staging.data(), kFrameBytes}}};
      offered = rest + kFrameBytes;
      result = line.stream->read(parts);
      const std::size_t direct = std::min(result.bytes, rest);
      line.payload_done += direct;
      line.staged = result.bytes - direct;
    } else {
      const iovec part{line.staging.data() + line.staged, line.staging.size() - line.staged};
      offered = part.iov_len;
      result = line.stream->read({&part, 1});
      line.staged += result.bytes;
    }
    heard_ += result.bytes;
    turn += result.bytes + std::exchange(line.copied, 0);
    if (line.in_payload && line.payload_done == line.frame.length) {
      line.in_payload = false;
      if (const Cause cause = end_part(line.frame); cause != Cause::none) return cause;
    }
    std::size_t used = 0;
    if (const Cause cause = parse(index, used); cause != Cause::none) return cause;
    if (used > 0) {
      line.staged -= used;
      std::memmove(line.staging.data(), line.staging.data() + used, line.staged);
    }
    if (result.cause != Cause::none) return result.cause;
    if (result.bytes < offered) return Cause::none;  // a short read: the edge will tell when there is more
  }
}

Cause Session::pump(bool& more) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (const Cause cause = read_line(i, more); cause != Cause::none) return cause;
  }
  if (ack_due_) {
    ack_due_ = false;
    control(0, {.type = FrameType::ack, .sequence = ended_});
  }
  start_waiting();
  for (Line& line : streams_) {
    if (const Cause cause = write_line(line, more); cause != Cause::none) return cause;
  }
  if (!waiting_.empty()) start_waiting();
  for (const Line& line : streams_) more = more || (!line.out.empty() && !line.blocked);
  return Cause::none;
}

}  // namespace faultline::transport
