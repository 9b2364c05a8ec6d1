// Who puts the writes of an exchange on the wire: the host, through a Transport, or work requests that device code
// writes into a NIC's queue (device_poster.h). Ends and notifies come back to the exchange as transport events.
#pragma once

#include "core/ports/transport.h"

namespace faultline::ep {

class Poster {
 public:
  virtual ~Poster() = default;
  /// As Transport::post(): accepted means exactly one end, later.
  virtual Status post(const WriteBatch& batch) = 0;
};

class HostPoster final : public Poster {
 public:
  explicit HostPoster(Transport& transport) : transport_(&transport) {}
  Status post(const WriteBatch& batch) override { return transport_->post(batch); }

 private:
  Transport* transport_;
};

}  // namespace faultline::ep
