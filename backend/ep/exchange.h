// Expert-parallel exchange of one rank: dispatch tokens to the ranks of their experts, combine the results, over a
// Transport; its writes are posted by the host, or by device code (poster.h). Sans-IO: transport events in, done() out;
// one owner thread.
//
// Two variants with the same result, bit for bit:
//   low_latency      one write per peer, straight to it; the count travels in its header
//   high_throughput  counts first (a notify each); a token for several ranks of another node crosses once, to the rank
//   of
//                    that node with our local index, which forwards it
// A combined token is the sum, in order of rank, of what each rank computed for it; the reference (reference.h) adds in
// the same order, so equality is exact.
//
// A rank that owes something and has said nothing for wait_max is marked dead, here and, by the headers, everywhere;
// tokens that lack its experts are flagged. From then on nothing is sent to it and nobody waits for it. Who waits says
// so to all others four times per wait_max: one that is late because it waits for a dead rank is not taken for dead,
// and the survivors agree on who is. A healthy step is over before the first such sign. Signs or
// not, four times wait_max is the end of a wait.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "backend/ep/poster.h"
#include "core/base/quantity.h"
#include "core/ports/transport.h"

namespace faultline::ep {

enum class Variant : std::uint8_t { low_latency, high_throughput };

struct ExchangeSettings {
  std::uint32_t ranks = 1;           // at most 64
  std::uint32_t ranks_per_node = 1;  // divides ranks
  std::uint32_t rank = 0;
  std::uint32_t experts = 1;  // expert e lives on rank e * ranks / experts
  std::uint32_t topk = 1;
  std::uint32_t hidden = 1;      // floats per token
  std::uint32_t tokens_max = 1;  // per rank and step; below 65,535
  Variant variant = Variant::low_latency;
  Duration wait_max{100'000'000};
};

/// A token that came for this rank's experts.
struct Arrival {
  std::uint32_t source = 0;                              // rank
  std::uint32_t token = 0;                               // index there
  std::vector<std::pair<std::uint32_t, float>> experts;  // (expert, weight), ascending; all of this rank
  std::vector<float> value;                              // [hidden]
};

struct Combined {
  std::vector<float> value;  // [tokens * hidden]
  std::vector<bool> whole;   // [tokens]: every expert contributed
  std::uint64_t dead = 0;    // bit per rank
};

struct ExchangeCounters {
  std::uint64_t messages = 0;  // batches with bytes
  std::int64_t bytes = 0;
  std::int64_t bytes_between_nodes = 0;
};

class Exchange {
 public:
  /// Bytes of the window that register_memory() must cover on each rank: incoming then outgoing.
  static std::size_t window_bytes(const ExchangeSettings& settings);
  /// `window` is registered as `local`; peers[r] is rank r's endpoint and windows[r] its imported window (own entries
  /// unused).
  Exchange(const ExchangeSettings& settings, Transport& transport, std::span<std::byte> window, RegionId local,
           std::vector<EndpointId> peers, std::vector<RegionId> windows, std::function<OpId()> next_op);
  /// As above, with another way of posting; it outlives the exchange.
  Exchange(const ExchangeSettings& settings, Poster& poster, std::span<std::byte> window, RegionId local,
           std::vector<EndpointId> peers, std::vector<RegionId> windows, std::function<OpId()> next_op);

  /// Steps run one after another: 0, 1, 2, … on every rank. Shapes: values[tokens * hidden]; experts and weights
  /// [tokens * topk], experts of a token distinct. Weights are applied by the caller's experts.
  void dispatch(Instant now, std::span<const float> values, std::span<const std::uint32_t> experts,
                std::span<const float> weights);
  bool dispatched() const { return phase_ != Phase::dispatching; }
  /// In order of (source, token). Valid until the next dispatch().
  const std::vector<Arrival>& arrivals() const { return arrivals_; }
  /// results[i * hidden, +hidden): this rank's weighted sum over arrivals()[i].experts.
  void combine(Instant now, std::span<const float> results);
  bool combined() const { return phase_ == Phase::idle; }
  /// `rank` has begun the step after ours and waits for our dispatch(): for ranks that follow another's pace.
  bool awaited_by(std::uint32_t rank) const {
    return std::any_of(early_.begin(), early_.end(), [rank](const Early& early) { return early.from == rank; });
  }
  const Combined& result() const { return combined_; }

  void handle(const TransportEvent& event, Instant now);
  void tick(Instant now);
  Instant next_deadline() const;
  std::uint64_t dead() const { return dead_; }
  const ExchangeCounters& counters() const { return counters_; }

 private:
  enum class Phase : std::uint8_t { idle, dispatching, computing, combining };
  enum class Kind : std::uint8_t { dispatch, forward, result, count };
  struct Record {
    std::uint32_t token = 0;
    std::vector<std::pair<std::uint32_t, float>> experts;  // of a result: empty
    std::vector<float> value;
  };
  struct Message {
    std::uint64_t step = 0;
    std::uint64_t dead = 0;
    std::uint32_t source = 0;  // rank whose tokens these are
    std::vector<Record> records;
  };
  struct Announced {
    std::uint32_t tokens = 0;
    std::uint32_t via = 0;  // the rank of our node that passes them on
  };
  struct Early {
    std::uint32_t from;
    std::uint32_t tag;
  };

  std::uint32_t rank_of(std::uint32_t expert) const {
    return static_cast<std::uint32_t>(std::uint64_t{expert} * s_.ranks / s_.experts);
  }
  std::uint32_t node_of(std::uint32_t rank) const { return rank / s_.ranks_per_node; }
  bool alive(std::uint32_t rank) const { return (dead_ >> rank & 1) == 0; }
  /// The rank of `node` that passes on what comes from `source`, given who is dead; nullopt if the node has none alive.
  std::optional<std::uint32_t> forwarder(std::uint32_t source, std::uint32_t node, std::uint64_t dead) const;
  bool lost_on_the_way(std::uint32_t source) const;
  std::size_t in_slot(Kind kind, std::uint64_t step, std::uint32_t index) const;
  std::size_t out_slot(Kind kind, std::uint64_t step, std::uint32_t index) const;
  std::uint32_t tag_of(Kind kind, std::uint32_t low) const;
  void send(Kind kind, std::uint32_t to, std::uint32_t index_there, std::uint32_t index_here, const Message& message);
  std::optional<Message> read(Kind kind, std::uint32_t index) const;
  void told(std::uint32_t from, std::uint32_t tag);
  void take_tokens(const Message& message);
  void pass_on(const Message& message);
  void send_low_latency(std::map<std::uint32_t, std::vector<Record>>& by_rank);
  void send_high_throughput(std::map<std::uint32_t, std::vector<Record>>& by_rank);
  void mark_dead(std::uint64_t ranks);
  void begin_waiting(Instant now);
  void give_sign(Instant now);
  void advance();

  ExchangeSettings s_;
  std::unique_ptr<Poster> own_poster_;
  Poster* poster_;
  std::span<std::byte> window_;
  RegionId local_;
  std::vector<EndpointId> peers_;
  std::vector<RegionId> windows_;
  std::function<OpId()> next_op_;

  Phase phase_ = Phase::idle;
  std::uint64_t step_ = 0;  // of the current or last dispatch; the first is 1
  Instant deadline_ = kNever;
  Instant next_sign_ = kNever;
  Instant began_{0};               // of the present wait
  std::vector<Instant> heard_at_;  // last notify of each rank
  std::uint64_t dead_ = 0;
  std::uint32_t tokens_ = 0;
  std::vector<std::uint32_t> owed_;            // per own token: contributing ranks still missing
  std::map<std::uint32_t, Announced> counts_;  // high throughput: by source
  std::set<std::uint32_t> heard_;              // sources whose tokens are all here, or will never be
  std::vector<Arrival> arrivals_;
  std::map<std::uint32_t, std::vector<Record>> results_;  // by rank, for the own tokens
  std::set<std::uint32_t> results_due_;                   // ranks whose results are to come
  std::vector<Early> early_;                              // notifies of the next step
  std::map<OpId, std::size_t> in_flight_;                 // op -> its out slot
  std::set<std::size_t> busy_slots_;
  Combined combined_;
  ExchangeCounters counters_;
};

}  // namespace faultline::ep
