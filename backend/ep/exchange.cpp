#include "backend/ep/exchange.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "core/base/assert.h"

namespace faultline::ep {
namespace {

constexpr std::size_t kHeaderBytes = 32;
constexpr std::uint32_t kLowBits = 22;
constexpr std::uint32_t kWaits = (1U << kLowBits) - 1;  // instead of a count: a sign of life
// A count's low bits: the number of tokens, and above it the local index of the rank that passes them on.
constexpr std::uint32_t kCountBits = 16;
constexpr std::uint32_t kCountMask = (1U << kCountBits) - 1;
constexpr std::int64_t kSignsPerWait = 4;
constexpr std::int64_t kWaitsAtMost = 4;

std::size_t record_bytes(const ExchangeSettings& s) { return 8 + s.topk * 8 + s.hidden * 4; }
std::size_t slot_bytes(const ExchangeSettings& s) { return kHeaderBytes + s.tokens_max * record_bytes(s); }
// Incoming: dispatch, forward and result, one slot per rank and parity. Outgoing: dispatch and result per rank, forward
// per (source, local rank).
std::size_t in_slots(const ExchangeSettings& s) { return 3U * 2U * s.ranks; }
std::size_t out_slots(const ExchangeSettings& s) { return 2U * (2U * s.ranks + s.ranks * s.ranks_per_node); }

template <class T>
void put(std::byte*& at, const T& value) {
  std::memcpy(at, &value, sizeof value);
  at += sizeof value;
}
template <class T>
T get(const std::byte*& at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

}  // namespace

std::size_t Exchange::window_bytes(const ExchangeSettings& s) { return (in_slots(s) + out_slots(s)) * slot_bytes(s); }

Exchange::Exchange(const ExchangeSettings& settings, Transport& transport, std::span<std::byte> window, RegionId local,
                   std::vector<EndpointId> peers, std::vector<RegionId> windows, std::function<OpId()> next_op)
    : Exchange(settings, *new HostPoster(transport), window, local, std::move(peers), std::move(windows),
               std::move(next_op)) {
  own_poster_.reset(poster_);
}

Exchange::Exchange(const ExchangeSettings& settings, Poster& poster, std::span<std::byte> window, RegionId local,
                   std::vector<EndpointId> peers, std::vector<RegionId> windows, std::function<OpId()> next_op)
    : s_(settings),
      poster_(&poster),
      window_(window),
      local_(local),
      peers_(std::move(peers)),
      windows_(std::move(windows)),
      next_op_(std::move(next_op)) {
  FAULTLINE_ASSERT(s_.ranks > 0 && s_.ranks <= 64 && s_.rank < s_.ranks && s_.ranks % s_.ranks_per_node == 0,
                   "ranks={} per node={}", s_.ranks, s_.ranks_per_node);
  heard_at_.assign(s_.ranks, Instant{0});
  FAULTLINE_ASSERT(window_.size() >= window_bytes(s_) && s_.tokens_max < kCountMask, "window of {} bytes",
                   window_.size());
}

// ---- messages
// ---------------------------------------------------------------------------------------------------------

// Two parities: a rank begins step n+2 only after every living rank has answered step n+1, so after it has read step n.
std::size_t Exchange::in_slot(Kind kind, std::uint64_t step, std::uint32_t index) const {
  return ((static_cast<std::size_t>(kind) * 2 + step % 2) * s_.ranks + index) * slot_bytes(s_);
}
std::size_t Exchange::out_slot(Kind kind, std::uint64_t step, std::uint32_t index) const {
  const std::size_t per_parity = 2U * s_.ranks + s_.ranks * s_.ranks_per_node;
  const std::size_t base = kind == Kind::dispatch ? 0 : kind == Kind::result ? s_.ranks : 2U * s_.ranks;
  return (in_slots(s_) + step % 2 * per_parity + base + index) * slot_bytes(s_);
}
std::uint32_t Exchange::tag_of(Kind kind, std::uint32_t low) const {
  return static_cast<std::uint32_t>(kind) << 30 | static_cast<std::uint32_t>(step_ & 0xff) << kLowBits | low;
}

void Exchange::send(Kind kind, std::uint32_t to, std::uint32_t index_there, std::uint32_t index_here,
                    const Message& message) {
  const std::size_t slot = out_slot(kind, step_, index_here);
  if (busy_slots_.contains(slot)) {  // two steps old and not yet acknowledged: whoever it is for does not keep up
    mark_dead(1ULL << to);
    return;
  }
  std::byte* at = window_.data() + slot;
  const std::byte* begin = at;
  put(at, message.step);
  put(at, message.dead);
  put(at, message.source);
  put(at, static_cast<std::uint32_t>(message.records.size()));
  put(at, std::uint64_t{0});
  for (const Record& record : message.records) {
    put(at, record.token);
    put(at, static_cast<std::uint32_t>(record.experts.size()));
    for (const auto& [expert, weight] : record.experts) {
      put(at, expert);
      put(at, weight);
    }
    std::memcpy(at, record.value.data(), record.value.size() * sizeof(float));
    at += record.value.size() * sizeof(float);
  }
  const std::int64_t bytes = at - begin;
  const OpId op = next_op_();
  const Status status = poster_->post({op,
                                       peers_[to],
                                       {{local_,
                                         {static_cast<std::int64_t>(slot)},
                                         windows_[to],
                                         {static_cast<std::int64_t>(in_slot(kind, step_, index_there))},
                                         {bytes}}},
                                       tag_of(kind, index_there)});
  if (!status) {
    mark_dead(1ULL << to);
    return;
  }
  in_flight_[op] = slot;
  busy_slots_.insert(slot);
  ++counters_.messages;
  counters_.bytes += bytes;
  if (node_of(to) != node_of(s_.rank)) counters_.bytes_between_nodes += bytes;
}

/// Nothing in it is trusted: a rank that was declared dead may write late into its own slot.
std::optional<Exchange::Message> Exchange::read(Kind kind, std::uint32_t index) const {
  const std::byte* at = window_.data() + in_slot(kind, step_, index);
  const std::byte* end = at + slot_bytes(s_);
  Message message;
  message.step = get<std::uint64_t>(at);
  message.dead = get<std::uint64_t>(at);
  message.source = get<std::uint32_t>(at);
  const auto records = get<std::uint32_t>(at);
  get<std::uint64_t>(at);
  if (message.step != step_ || message.source >= s_.ranks || records > s_.tokens_max) return std::nullopt;
  for (std::uint32_t i = 0; i < records; ++i) {
    if (end - at < 8) return std::nullopt;
    Record record;
    record.token = get<std::uint32_t>(at);
    const auto experts = get<std::uint32_t>(at);
    if (experts > s_.topk || end - at < static_cast<std::ptrdiff_t>(experts * 8 + s_.hidden * 4) ||
        record.token >= s_.tokens_max)
      return std::nullopt;
    for (std::uint32_t k = 0; k < experts; ++k) {
      const auto expert = get<std::uint32_t>(at);
      if (expert >= s_.experts) return std::nullopt;
      record.experts.emplace_back(expert, get<float>(at));
    }
    record.value.resize(s_.hidden);
    std::memcpy(record.value.data(), at, s_.hidden * sizeof(float));
    at += s_.hidden * sizeof(float);
    message.records.push_back(std::move(record));
  }
  return message;
}

// ---- dispatch
// ---------------------------------------------------------------------------------------------------------

std::optional<std::uint32_t> Exchange::forwarder(std::uint32_t source, std::uint32_t node, std::uint64_t dead) const {
  for (std::uint32_t i = 0; i < s_.ranks_per_node; ++i) {
    const std::uint32_t rank = node * s_.ranks_per_node + (source + i) % s_.ranks_per_node;
    if ((dead >> rank & 1) == 0) return rank;
  }
  return std::nullopt;
}

/// It announced tokens, and the rank that should have passed them on died meanwhile.
bool Exchange::lost_on_the_way(std::uint32_t source) const {
  if (s_.variant != Variant::high_throughput || !counts_.contains(source) || node_of(source) == node_of(s_.rank))
    return false;
  return !alive(counts_.at(source).via);
}

void Exchange::dispatch(Instant now, std::span<const float> values, std::span<const std::uint32_t> experts,
                        std::span<const float> weights) {
  FAULTLINE_ASSERT(phase_ == Phase::idle && values.size() % s_.hidden == 0, "values={}", values.size());
  tokens_ = static_cast<std::uint32_t>(values.size() / s_.hidden);
  FAULTLINE_ASSERT(tokens_ <= s_.tokens_max && experts.size() == tokens_ * s_.topk && weights.size() == experts.size(),
                   "tokens={} experts={}", tokens_, experts.size());
  ++step_;
  phase_ = Phase::dispatching;
  begin_waiting(now);
  counts_.clear();
  heard_.clear();
  arrivals_.clear();
  results_.clear();
  results_due_.clear();
  owed_.assign(tokens_, 0);

  std::map<std::uint32_t, std::vector<Record>> by_rank;
  for (std::uint32_t token = 0; token < tokens_; ++token) {
    std::map<std::uint32_t, Record> parts;
    for (std::uint32_t k = 0; k < s_.topk; ++k) {
      const std::uint32_t expert = experts[token * s_.topk + k];
      FAULTLINE_ASSERT(expert < s_.experts, "expert={}", expert);
      parts[rank_of(expert)].experts.emplace_back(expert, weights[token * s_.topk + k]);
    }
    owed_[token] = static_cast<std::uint32_t>(parts.size());
    for (auto& [rank, record] : parts) {
      if (!alive(rank)) continue;  // masked: the token will be flagged, nothing is sent
      record.token = token;
      std::sort(record.experts.begin(), record.experts.end());
      record.value.assign(values.begin() + token * s_.hidden, values.begin() + (token + 1) * s_.hidden);
      by_rank[rank].push_back(std::move(record));
    }
  }
  for (const auto& [rank, records] : by_rank) results_due_.insert(rank);
  take_tokens({step_, dead_, s_.rank, by_rank[s_.rank]});
  by_rank.erase(s_.rank);
  if (s_.variant == Variant::low_latency) send_low_latency(by_rank);
  else send_high_throughput(by_rank);
  for (const Early& early : std::exchange(early_, {})) told(early.from, early.tag);
  advance();
}

void Exchange::send_low_latency(std::map<std::uint32_t, std::vector<Record>>& by_rank) {
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if (rank != s_.rank && alive(rank))
      send(Kind::dispatch, rank, s_.rank, rank, {step_, dead_, s_.rank, std::move(by_rank[rank])});
  }
}

void Exchange::send_high_throughput(std::map<std::uint32_t, std::vector<Record>>& by_rank) {
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if (rank == s_.rank || !alive(rank)) continue;
    const auto it = by_rank.find(rank);
    const auto count = static_cast<std::uint32_t>(it == by_rank.end() ? 0 : it->second.size());
    // Said, not worked out there: who is dead may be known here and not yet there, or the other way round.
    const std::uint32_t via = forwarder(s_.rank, node_of(rank), dead_).value_or(rank) % s_.ranks_per_node;
    if (!poster_->post({next_op_(), peers_[rank], {}, tag_of(Kind::count, via << kCountBits | count)}))
      mark_dead(1ULL << rank);
  }
  for (std::uint32_t node = 0; node < s_.ranks / s_.ranks_per_node; ++node) {
    std::map<std::uint32_t, Record> once;  // by token
    for (std::uint32_t rank = node * s_.ranks_per_node; rank < (node + 1) * s_.ranks_per_node; ++rank) {
      const auto it = by_rank.find(rank);
      if (it == by_rank.end()) continue;
      if (node == node_of(s_.rank)) {
        const std::uint32_t out = s_.rank * s_.ranks_per_node + rank % s_.ranks_per_node;
        send(Kind::forward, rank, s_.rank, out, {step_, dead_, s_.rank, std::move(it->second)});
        continue;
      }
      for (Record& record : it->second) {
        auto [merged, fresh] = once.try_emplace(record.token, record);
        if (!fresh)
          merged->second.experts.insert(merged->second.experts.end(), record.experts.begin(), record.experts.end());
      }
    }
    const auto via = once.empty() ? std::nullopt : forwarder(s_.rank, node, dead_);
    if (!via) continue;
    Message message{step_, dead_, s_.rank, {}};
    for (auto& [token, record] : once) message.records.push_back(std::move(record));
    send(Kind::dispatch, *via, s_.rank, *via, message);
  }
}

/// As forwarder: the tokens of another node's rank, split over the ranks of this node.
void Exchange::pass_on(const Message& message) {
  std::map<std::uint32_t, Message> parts;
  for (const Record& record : message.records) {
    std::map<std::uint32_t, Record> by_rank;
    for (const auto& entry : record.experts) by_rank[rank_of(entry.first)].experts.push_back(entry);
    for (auto& [rank, part] : by_rank) {
      if (node_of(rank) != node_of(s_.rank)) continue;
      part.token = record.token;
      part.value = record.value;
      auto& target = parts.try_emplace(rank, Message{step_, dead_ | message.dead, message.source, {}}).first->second;
      target.records.push_back(std::move(part));
    }
  }
  for (const auto& [rank, part] : parts) {
    if (rank == s_.rank) take_tokens(part);
    else if (alive(rank))
      send(Kind::forward, rank, message.source, message.source * s_.ranks_per_node + rank % s_.ranks_per_node, part);
  }
}

void Exchange::take_tokens(const Message& message) {
  if (phase_ != Phase::dispatching || !heard_.insert(message.source).second) return;  // too late is as never
  for (const Record& record : message.records) {
    const bool mine = std::all_of(record.experts.begin(), record.experts.end(),
                                  [this](const auto& entry) { return rank_of(entry.first) == s_.rank; });
    if (mine) arrivals_.push_back({message.source, record.token, record.experts, record.value});
  }
}

// ---- combine
// ----------------------------------------------------------------------------------------------------------

void Exchange::combine(Instant now, std::span<const float> results) {
  FAULTLINE_ASSERT(phase_ == Phase::computing && results.size() == arrivals_.size() * s_.hidden,
                   "results={} arrivals={}", results.size(), arrivals_.size());
  phase_ = Phase::combining;
  begin_waiting(now);
  std::map<std::uint32_t, Message> back;
  // Who announced tokens gets an answer even if none came through: an empty one, so that it need not wait.
  for (const auto& [source, announced] : counts_) {
    if (announced.tokens > 0) back[source] = {step_, dead_, source, {}};
  }
  for (std::size_t i = 0; i < arrivals_.size(); ++i) {
    Message& message =
        back.try_emplace(arrivals_[i].source, Message{step_, dead_, arrivals_[i].source, {}}).first->second;
    message.dead = dead_;
    message.records.push_back({arrivals_[i].token,
                               {},
                               {results.begin() + static_cast<std::ptrdiff_t>(i * s_.hidden),
                                results.begin() + static_cast<std::ptrdiff_t>((i + 1) * s_.hidden)}});
  }
  for (auto& [source, message] : back) {
    if (source == s_.rank) {
      results_[s_.rank] = std::move(message.records);
      results_due_.erase(s_.rank);
    } else if (alive(source)) {
      send(Kind::result, source, s_.rank, source, message);
    }
  }
  results_due_.erase(s_.rank);
  advance();
}

// ---- progress
// ---------------------------------------------------------------------------------------------------------

void Exchange::told(std::uint32_t from, std::uint32_t tag) {
  const auto kind = static_cast<Kind>(tag >> 30);
  const std::uint32_t low = tag & ((1U << kLowBits) - 1);
  const auto behind = static_cast<std::uint8_t>((tag >> kLowBits) - static_cast<std::uint32_t>(step_));
  if (behind == 1 || (phase_ == Phase::idle && behind == 1)) {
    early_.push_back({from, tag});
    return;
  }
  if (behind != 0 || !alive(from)) return;
  if (kind == Kind::count) {
    const std::uint32_t via = low >> kCountBits;
    if (via >= s_.ranks_per_node) return;
    counts_[from] = {low & kCountMask, node_of(s_.rank) * s_.ranks_per_node + via};
    if (counts_[from].tokens == 0) heard_.insert(from);
    return;
  }
  // A forward lies in the slot of its source, everything else in the sender's own: nobody is believed about another's.
  if (low >= s_.ranks || (kind != Kind::forward && low != from) ||
      (kind == Kind::forward && node_of(from) != node_of(s_.rank)))
    return;
  const auto message = read(kind, low);
  if (!message) return;
  mark_dead(message->dead);
  switch (kind) {
    case Kind::dispatch:
      if (message->source != from) return;
      if (s_.variant == Variant::low_latency) take_tokens(*message);
      else pass_on(*message);
      return;
    case Kind::forward:
      if (message->source == low) take_tokens(*message);
      return;
    case Kind::result:
      if (results_due_.erase(from) > 0) results_[from] = message->records;
      return;
    case Kind::count: return;
  }
}

void Exchange::mark_dead(std::uint64_t ranks) {
  ranks &= ~(1ULL << s_.rank);
  dead_ |= ranks;
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if ((ranks >> rank & 1) == 0) continue;
    results_due_.erase(rank);
    counts_.erase(rank);
  }
}

void Exchange::advance() {
  if (phase_ == Phase::dispatching) {
    for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
      if (rank != s_.rank && alive(rank) && !heard_.contains(rank) && !lost_on_the_way(rank)) return;
    }
    std::sort(arrivals_.begin(), arrivals_.end(), [](const Arrival& a, const Arrival& b) {
      return std::tie(a.source, a.token) < std::tie(b.source, b.token);
    });
    phase_ = Phase::computing;
    deadline_ = next_sign_ = kNever;
  } else if (phase_ == Phase::combining) {
    if (!results_due_.empty()) return;
    combined_.value.assign(std::size_t{tokens_} * s_.hidden, 0.0F);
    std::vector<std::uint32_t> owed = owed_;
    for (const auto& [rank, records] : results_) {  // in order of rank: sums are the same on every run and variant
      for (const Record& record : records) {
        if (record.token >= tokens_ || owed[record.token] == 0) continue;
        --owed[record.token];
        float* sum = combined_.value.data() + std::size_t{record.token} * s_.hidden;
        for (std::uint32_t h = 0; h < s_.hidden; ++h) sum[h] += record.value[h];
      }
    }
    combined_.whole.assign(tokens_, false);
    for (std::uint32_t token = 0; token < tokens_; ++token) combined_.whole[token] = owed[token] == 0;
    combined_.dead = dead_;
    phase_ = Phase::idle;
    deadline_ = next_sign_ = kNever;
  }
}

void Exchange::tick(Instant now) {
  give_sign(now);
  if (now < deadline_) return;
  std::uint64_t late = 0;
  const bool enough = now - began_ >= s_.wait_max * kWaitsAtMost;
  const auto silent = [&](std::uint32_t rank) { return enough || now - heard_at_[rank] >= s_.wait_max; };
  if (phase_ == Phase::dispatching) {
    for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
      if (rank == s_.rank || !alive(rank) || heard_.contains(rank)) continue;
      if (silent(rank)) {
        late |= 1ULL << rank;
      } else if (counts_.contains(rank)) {
        // It announced tokens and lives: they are lost with who should have passed them on, if that one is silent.
        const std::uint32_t via = counts_.at(rank).via;
        if (node_of(rank) != node_of(s_.rank) && via != s_.rank && silent(via)) {
          late |= 1ULL << via;
          heard_.insert(rank);
        }
      }
    }
  } else {
    for (const std::uint32_t rank : results_due_) late |= silent(rank) ? 1ULL << rank : 0;
  }
  mark_dead(late);
  advance();
  if (phase_ == Phase::dispatching || phase_ == Phase::combining)
    deadline_ = now + Duration{s_.wait_max.v / kSignsPerWait};  // somebody is late and lives: looked at again
}

void Exchange::begin_waiting(Instant now) {
  began_ = now;
  deadline_ = now + s_.wait_max;
  next_sign_ = now + Duration{s_.wait_max.v / kSignsPerWait};
}

void Exchange::give_sign(Instant now) {
  if (now < next_sign_) return;
  next_sign_ = now + Duration{s_.wait_max.v / kSignsPerWait};
  for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
    if (rank == s_.rank || !alive(rank)) continue;
    // Refused: there is no room, so it has other things of ours to hear; or it is gone, which an event tells.
    (void)poster_->post({next_op_(), peers_[rank], {}, tag_of(Kind::count, kWaits)});
  }
}

Instant Exchange::next_deadline() const { return std::min(deadline_, next_sign_); }

void Exchange::handle(const TransportEvent& event, Instant now) {
  const auto rank_at = [this](EndpointId peer) -> std::optional<std::uint32_t> {
    for (std::uint32_t rank = 0; rank < s_.ranks; ++rank) {
      if (rank != s_.rank && peers_[rank] == peer) return rank;
    }
    return std::nullopt;
  };
  if (const auto* notified = std::get_if<Notified>(&event)) {
    const auto rank = rank_at(notified->from);
    if (!rank) return;
    heard_at_[*rank] = now;
    const bool sign = static_cast<Kind>(notified->tag >> 30) == Kind::count && (notified->tag & kWaits) == kWaits;
    if (!sign) told(*rank, notified->tag);
  } else if (const auto* down = std::get_if<EndpointDown>(&event)) {
    if (const auto rank = rank_at(down->peer)) mark_dead(1ULL << *rank);
  } else {
    const auto* done = std::get_if<OpCompleted>(&event);
    const auto* lost = std::get_if<OpFailed>(&event);
    const auto it = done || lost ? in_flight_.find(done ? done->op : lost->op) : in_flight_.end();
    if (it != in_flight_.end()) {
      busy_slots_.erase(it->second);
      in_flight_.erase(it);
    }
  }
  advance();
}

}  // namespace faultline::ep
