// What two VerbsTransports tell each other beside the data: messages over the inner TcpTransport, whose notifies come
// in order and at most once, because it has one connection. A message is cut into notifies of 24 bits behind an 8-bit
// mark.
#include <algorithm>
#include <cstring>

#include "backend/transport/verbs_engine.h"
#include "backend/transport/wire.h"

namespace faultline::transport {
namespace {

constexpr std::uint32_t kBegin = 1;  // mark of the first notify: its 24 bits are the length of the message in bytes
constexpr std::uint32_t kMore = 2;   // mark of the others: three bytes each
constexpr std::size_t kMessageMax = 1024;

}  // namespace

void VerbsTransport::Engine::take_control() {
  std::array<TransportEvent, 64> events;
  for (std::size_t count = 0; (count = control_->poll(events)) > 0;) {
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto* up = std::get_if<EndpointUp>(&events[i])) {
        const auto peer = peers_.find(up->peer);
        if (peer == peers_.end()) continue;
        for (std::size_t rail = 0; rail < peer->second.links.size(); ++rail) {
          const Link& link = peer->second.links[rail];
          if (link.state == Link::State::connecting)
            say(peer->second, Say::queue_pairs, rail, &link.mine, sizeof link.mine);
        }
      } else if (const auto* told = std::get_if<Notified>(&events[i])) {
        const auto peer = peers_.find(told->from);
        if (peer != peers_.end()) word(peer->second, told->tag);
      } else if (const auto* down = std::get_if<EndpointDown>(&events[i])) {
        lose(down->peer, down->cause, down->cause);  // no effect if it was given up before
        const auto end = ending_.find(down->peer);
        if (end != ending_.end()) end->second.control_gone = true;
      }
    }
  }
  for (auto& [id, peer] : peers_) flush_words(peer);
}

void VerbsTransport::Engine::say(Peer& peer, Say what, std::size_t rail, const void* payload, std::size_t bytes) {
  std::vector<std::byte> message(6 + bytes);
  WireWriter(message).put(static_cast<std::uint8_t>(what), static_cast<std::uint8_t>(rail), peer.links[rail].epoch);
  if (bytes > 0) std::memcpy(message.data() + 6, payload, bytes);
  peer.words_out.push_back(kBegin << 24 | static_cast<std::uint32_t>(message.size()));
  for (std::size_t at = 0; at < message.size(); at += 3) {
    std::uint32_t word = 0;
    std::memcpy(&word, message.data() + at, std::min<std::size_t>(3, message.size() - at));
    peer.words_out.push_back(kMore << 24 | word);
  }
  flush_words(peer);
}

void VerbsTransport::Engine::flush_words(Peer& peer) {
  while (!peer.words_out.empty()) {
    // Refused: not up yet, gone (its event is on the way), or full: then later.
    if (!control_->post({OpId{++control_ops_}, peer.id, {}, peer.words_out.front()})) return;
    peer.words_out.pop_front();
  }
}

void VerbsTransport::Engine::word(Peer& peer, std::uint32_t tag) {
  const std::uint32_t mark = tag >> 24;
  const std::uint32_t value = tag & 0xffffff;
  const bool begins = mark == kBegin && peer.message_length == 0 && value >= 6 && value <= kMessageMax;
  if (!begins && (mark != kMore || peer.message_length == 0)) {
    lose(peer.id, Cause::protection, Cause::protection);
    return;
  }
  if (begins) {
    peer.message_length = value;
    peer.message.clear();
    return;
  }
  const std::size_t piece = std::min<std::size_t>(3, peer.message_length - peer.message.size());
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  peer.message.insert(peer.message.end(), bytes, bytes + piece);
  if (peer.message.size() < peer.message_length) return;
  peer.message_length = 0;
  heard(peer);
}

void VerbsTransport::Engine::heard(Peer& peer) {
  WireReader in(peer.message);
  std::uint8_t what = 0, rail = 0;
  std::uint32_t epoch = 0;
  in.get(what, rail, epoch);
  if (rail >= peer.links.size()) return;  // it has more devices than we have
  const EndpointId id = peer.id;
  Link& link = peer.links[rail];
  const bool current = epoch == link.epoch;
  switch (static_cast<Say>(what)) {
    case Say::queue_pairs: {
      QpInfo theirs;
      if (in.rest().size() != sizeof theirs) break;
      std::memcpy(&theirs, in.rest().data(), sizeof theirs);
      connect_link(peer, rail, epoch, theirs);
      return;
    }
    case Say::ready:
      if (current) {
        link.peer_ready = true;
        maybe_probe(peer, rail);
      }
      return;
    case Say::fence:
      if (current && (link.state == Link::State::up || link.state == Link::State::connecting)) {
        const bool another = std::any_of(peer.links.begin(), peer.links.end(),
                                         [&](const Link& l) { return &l != &link && l.state == Link::State::up; });
        if (another || !peer.up) fence(peer, rail, Cause::link_down);
        else lose(id, Cause::link_down, Cause::link_down);
      } else if (epoch > link.epoch && link.state == Link::State::paused) {
        link.epoch = epoch;  // an attempt that we never joined: nothing of it exists here
        const std::vector<std::uint32_t> none(settings_.qps, 0);
        say(peer, Say::fenced, rail, none.data(), none.size() * sizeof none[0]);
      }
      return;
    case Say::fenced: {
      if (!current || link.state != Link::State::fencing || in.rest().size() != settings_.qps * sizeof(std::uint32_t))
        return;
      std::vector<std::uint32_t> counts(settings_.qps);
      std::memcpy(counts.data(), in.rest().data(), in.rest().size());
      link.fenced_there = std::move(counts);
      step_fence(peer, rail);
      return;
    }
  }
  lose(id, Cause::protection, Cause::protection);
}

}  // namespace faultline::transport
