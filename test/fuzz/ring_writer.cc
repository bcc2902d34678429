// ring_writer: RingWriter against a reader that shows what it likes: a client writes its request
// ring so, a server its response and dispatch rings. Whatever the reader says, a record lies inside
// the ring and whole in front of its end. An eighth of the runs has an honest reader: what was
// written is then read, in order, once.
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
  RingReader reader;
  RingWriter writer;
  {
    const fuzz::HonestMemory honestly;
    MUST(reader.Init(memory.words.get(), memory.data, capacity) == COROIPC_OK);
  }
  if (writer.Init(memory.words.get(), memory.data, capacity) != COROIPC_OK) {
    MUST(!honest);
    return 0;
  }
  uint32_t written = 0, read = 0, wants = 0;
  while (input.left()) {
    switch (input.Byte() & 7) {
      case 0:
      case 1:
      case 2: {
        const uint32_t count = input.Size(capacity) % (writer.payload_bytes_max() + 1);
        uint8_t* payload = nullptr;
        const coroipc::Status status = writer.Reserve(count, &payload, &wants);
        if (status == COROIPC_AGAIN) {
          MUST(wants >= coroipc::RecordBytes(count) && wants <= capacity);
          break;
        }
        if (status != COROIPC_OK) {
          MUST(status == COROIPC_PROTOCOL && !honest);
          return 0;
        }
        MUST(payload >= memory.data + COROIPC_RECORD_BYTES &&
             payload + count <= memory.data + capacity);
        fuzz::FillPayload(payload, count, written);
        coroipc_record record = {};
        record.bytes = count;
        record.kind = COROIPC_RECORD_DISPATCH;
        record.sequence = written++;
        writer.Commit(record);
        MUST(writer.unpublished() && writer.unpublished_bytes() <= capacity);
        break;
      }
      case 3:
        writer.Publish();
        (void)writer.TakeReaderSleep();
        MUST(!writer.unpublished());
        break;
      case 4: {
        bool room = false;
        writer.SetWants(wants);
        if (writer.Room(wants, &room) != COROIPC_OK) {
          MUST(!honest);
          return 0;
        }
        writer.ClearWants();
        break;
      }
      case 5:
        if (!honest) memory.Poke();
        break;
      default: {  // the peer reads on
        const fuzz::HonestMemory honestly;
        coroipc_record header = {};
        const uint8_t* payload = nullptr;
        const coroipc::Status status = reader.Peek(&header, &payload);
        if (status != COROIPC_OK) {
          MUST(status == COROIPC_AGAIN || !honest);
          break;
        }
        if (honest) {
          MUST(header.sequence == read && fuzz::PayloadIs(payload, header.bytes, read));
        }
        ++read;
        reader.Advance();
        reader.PublishRead();
      }
    }
  }
  return 0;
}
