#include "backend/driver/wire.h"

#include "core/record/codec.h"

namespace faultline::live {
namespace {

template <class T>
std::string bytes_from(const T& value) {
  std::string out;
  record::Encoder encoder(out);
  encoder.value(value);
  return out;
}

template <class T>
std::optional<T> value_from(std::string_view bytes) {
  T value;
  try {
    record::Decoder decoder(bytes);
    decoder.value(value);
    if (!decoder.done()) return std::nullopt;
  } catch (const record::CodecError&) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

std::string encode(const Packet& packet) { return bytes_from(packet); }
std::string encode(const WorkerOrder& order) { return bytes_from(order); }
std::string encode(const WorkerReport& report) { return bytes_from(report); }
std::optional<Packet> decode_packet(std::string_view bytes) { return value_from<Packet>(bytes); }
std::optional<WorkerOrder> decode_order(std::string_view bytes) { return value_from<WorkerOrder>(bytes); }
std::optional<WorkerReport> decode_report(std::string_view bytes) { return value_from<WorkerReport>(bytes); }

}  // namespace faultline::live
