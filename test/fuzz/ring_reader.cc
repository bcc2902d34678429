// ring_reader: RingReader against a writer that shows what it likes. A server reads its request
// ring so, a client its response and dispatch rings. An eighth of the runs has an honest writer:
// what was written is then read, in order, once.
#include "rings.h"

using coroipc::RingReader;
using coroipc::RingWriter;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static fuzz::RingMemory memory;
  fuzz::Input& input = fuzz::input;
  input.Reset(data, bytes);
  const bool honest = input.Chance(8);
  fuzz::hostile_memory = !honest;
  memory.Reset();
  const uint32_t capacity = memory.capacity;
  RingWriter writer;
  RingReader reader;
  {
    const fuzz::HonestMemory honestly;
    MUST(writer.Init(memory.words.get(), memory.data, capacity) == COROIPC_OK);
  }
  if (reader.Init(memory.words.get(), memory.data, capacity) != COROIPC_OK) {
    MUST(!honest);
    return 0;
  }
  // Where a payload is copied to: no larger than the largest that a record may have.
  static fuzz::Exact rooms[fuzz::RingMemory::kSizes];
  uint32_t room_index = 0;
  while (64u << room_index != capacity) ++room_index;
  if (rooms[room_index].get() == nullptr)
    rooms[room_index].Resize(capacity / 2 - COROIPC_RECORD_BYTES);
  uint8_t* const room = rooms[room_index].get();

  uint32_t written = 0, read = 0;
  bool peeked = false, frozen = false;
  coroipc_record header = {};
  while (input.left()) {
    switch (input.Byte() & 15) {
      case 0:
      case 1:
      case 2: {  // the peer writes a record, by the rules or nearly
        const fuzz::HonestMemory honestly;
        uint8_t* payload = nullptr;
        uint32_t wants = 0;
        const uint32_t count = input.Size(capacity) % (writer.payload_bytes_max() + 1);
        if (writer.Reserve(count, &payload, &wants) != COROIPC_OK) break;
        fuzz::FillPayload(payload, count, written);
        coroipc_record record = {};
        record.bytes = count;
        record.kind = COROIPC_RECORD_REQUEST;
        record.sequence = written++;
        writer.Commit(record);
        writer.Publish();
        break;
      }
      case 3:
        if (!honest) memory.Poke();
        break;
      case 4:
      case 5:
      case 6:
      case 7: {
        const uint8_t* payload = nullptr;
        const coroipc::Status status = reader.Peek(&header, &payload);
        MUST(reader.seen_bytes() <= capacity);
        if (status == COROIPC_AGAIN) break;
        if (status != COROIPC_OK) {  // the connection is over
          MUST(status == COROIPC_PROTOCOL && !honest);
          return 0;
        }
        MUST(header.bytes <= capacity / 2 - COROIPC_RECORD_BYTES);
        MUST(payload >= memory.data + COROIPC_RECORD_BYTES &&
             payload + header.bytes <= memory.data + capacity);
        coroipc::CopyIn(room, payload, header.bytes);
        if (honest) {
          MUST(header.sequence == read && fuzz::PayloadIs(room, header.bytes, read));
        }
        peeked = true;
        break;
      }
      case 8:
      case 9:
        if (peeked) {
          reader.Advance();
          ++read;
        }
        peeked = false;
        break;
      case 10:
        reader.PublishRead();
        MUST(!reader.unpublished());
        break;
      case 11:
        if (peeked && !reader.leased())
          reader.Lease();
        else
          reader.Unlease();
        break;
      case 12:
        reader.SetSleep();
        (void)reader.ReadySeqCst();
        reader.ClearSleep();
        (void)reader.Ready();
        reader.Prefetch();
        break;
      case 13:
        (void)reader.LeaseAllows(reader.TakeWriterWants());
        (void)reader.PeekWriterWants();
        (void)reader.LeaseLeavesRoom();
        (void)reader.PublishDue();
        break;
      case 14:
        if (const coroipc::Status status = reader.LoadPeer(); status != COROIPC_OK) {
          MUST(status == COROIPC_PROTOCOL && !honest && !frozen);
          return 0;
        }
        break;
      default:
        if (!input.Chance(8)) break;
        reader.Freeze();
        frozen = true;
    }
  }
  return 0;
}
