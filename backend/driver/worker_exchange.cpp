#include "backend/driver/worker_exchange.h"

#include <algorithm>
#include <cmath>

namespace faultline::live {
namespace {

constexpr RegionId kWindow{0};

transport::TcpSettings settings_of(const std::string& secret, Duration budget) {
  transport::TcpSettings s;
  s.secret = secret;
  s.connections = 1;
  s.same_host_path = false;  // first light is about sockets
  s.failure_budget = budget;
  s.connect_timeout = Duration{10'000'000'000};
  return s;
}

}  // namespace

WorkerExchange::WorkerExchange(const WorkerOptions& options, const std::string& secret, Duration budget, Board& board)
    : options_(options), board_(board), transport_(settings_of(secret, budget)) {
  settings_.ranks = options.count;
  settings_.rank = options.index;
  settings_.experts = options.count;  // each worker's ranks hold one expert together
  settings_.topk = options.count;     // every token goes to every worker: nobody is left out of a step
  settings_.hidden = kHidden;
  settings_.tokens_max = std::max(1U, options.gpus);
  settings_.wait_max = budget;
  if (options.count == 1) return;
  window_.resize(ep::Exchange::window_bytes(settings_));
  const Status registered = transport_.register_memory(kWindow, window_);
  FAULTLINE_ASSERT(bool(registered), "{} bytes", window_.size());
}

Listening WorkerExchange::listening() const {
  if (options_.count == 1) return {};
  return {blob_of(transport_.local_address()), blob_of(transport_.export_region(kWindow))};
}

void WorkerExchange::join(const std::vector<WorkerInfo>& workers) {
  if (options_.count == 1 || workers.size() != options_.count || !peers_.empty()) return;
  peers_.resize(options_.count);
  windows_.resize(options_.count);
  for (std::uint32_t k = 0; k < options_.count; ++k) {
    if (k == options_.index) continue;
    peers_[k] = EndpointId{k};
    windows_[k] = RegionId{100 + k};
    if (!transport_.open(peers_[k], bytes_of(workers[k].address)) ||
        !transport_.import_region(windows_[k], peers_[k], bytes_of(workers[k].window))) {
      broken_ = Cause::protection;
    }
  }
}

std::optional<std::chrono::steady_clock::time_point> WorkerExchange::waiting_since() const {
  return running_ ? std::optional(since_) : std::nullopt;
}

void WorkerExchange::dispatch() {
  running_ = true;
  combining_ = false;
  ++rounds_;
  since_ = std::chrono::steady_clock::now();
  const std::uint32_t tokens = settings_.tokens_max;
  values_.resize(std::size_t{tokens} * kHidden);
  std::vector<std::uint32_t> experts;
  std::vector<float> weights;
  for (std::uint32_t t = 0; t < tokens; ++t) {
    for (std::uint32_t k = 0; k < settings_.topk; ++k) {
      experts.push_back((t + k) % settings_.experts);
      weights.push_back(1.0F / static_cast<float>(settings_.topk));
    }
    for (std::uint32_t h = 0; h < kHidden; ++h) values_[t * kHidden + h] = static_cast<float>((rounds_ + t + h) % 1024);
  }
  ep_->dispatch(now(), values_, experts, weights);
}

/// What a worker's experts make of a token is the token: the sum of the shares is what was sent, which is checked.
void WorkerExchange::combine() {
  combining_ = true;
  std::vector<float> results;
  for (const ep::Arrival& arrival : ep_->arrivals()) {
    float weight = 0;
    for (const auto& [expert, share] : arrival.experts) weight += share;
    for (const float v : arrival.value) results.push_back(weight * v);
  }
  ep_->combine(now(), results);
}

void WorkerExchange::check() {
  const ep::Combined& result = ep_->result();
  bool same = result.value.size() == values_.size();
  for (std::size_t i = 0; same && i < values_.size(); ++i) same = std::abs(result.value[i] - values_[i]) < 0.01F;
  if (!same) ++board_.exchanges_wrong;
  ++board_.exchanges;
}

void WorkerExchange::work() {
  std::array<TransportEvent, 32> events;
  for (std::size_t count = 0; (count = transport_.poll(events)) > 0;) {
    for (std::size_t i = 0; i < count; ++i) {
      const TransportEvent& e = events[i];
      if (std::holds_alternative<EndpointUp>(e)) ++up_;
      if (const auto* down = std::get_if<EndpointDown>(&e); down != nullptr && broken_ == Cause::none)
        broken_ = down->cause;
      if (ep_ && broken_ == Cause::none) ep_->handle(e, now());
    }
  }
  if (!ep_ && options_.count > 1 && up_ == options_.count - 1 && broken_ == Cause::none) {
    ep_ = std::make_unique<ep::Exchange>(settings_, transport_, window_, kWindow, peers_, windows_,
                                         [this] { return OpId{++ops_}; });
  }
  if (!ep_ || broken_ != Cause::none) return;
  ep_->tick(now());
  for (;;) {
    if (running_ && !combining_ && ep_->dispatched()) combine();
    if (running_ && combining_ && ep_->combined()) {
      // The engine does not go on without a rank: a masked result is no step.
      if (ep_->dead() != 0) {
        broken_ = Cause::timeout;
        return;
      }
      check();
      running_ = false;
      ++ended_;
    }
    const bool next = options_.index == 0 ? ended_ < wanted_ : ep_->awaited_by(0);
    if (running_ || !next) return;
    dispatch();
  }
}

}  // namespace faultline::live
