// ring.cc: reserve and commit, peek and advance. See ring.h for the invariants cited here.
#include "ring.h"

#include <cstring>

namespace coroipc {

namespace {
bool Aligned(uint32_t position) { return (position & (COROIPC_RECORD_ALIGN - 1)) == 0; }
}  // namespace

Status RingWriter::Init(coroipc_ring_words* words, uint8_t* data, uint32_t capacity) {
  words_ = words;
  data_ = data;
  capacity_ = capacity;
  // Both words are equal in a fresh segment (0; tests start them near 2^32). This is the only time
  // that an own position is read from shared memory: by the server before the client has it, by
  // the client from a server that may lie. A crooked one would stand across the ring's end.
  position_ = published_ = LoadRelaxed(words->write_position);
  peer_read_ = position_;
  return Aligned(position_) ? COROIPC_OK : COROIPC_PROTOCOL;
}

Status RingWriter::LoadPeer() {
  // ORDER space-freed (seq_cst; pairs with RingReader::PublishRead): the reader's copies out of the
  // space are done before the position that frees it; seq_cst since it is also the second look
  // after SetWants.
  const uint32_t read = LoadSeqCst(words_->read_position);
  // I1 and I5: never behind what it already freed, never past what we published.
  if (read - peer_read_ > published_ - peer_read_) return COROIPC_PROTOCOL;
  if (!Aligned(read)) return COROIPC_PROTOCOL;
  peer_read_ = read;
  return COROIPC_OK;
}

Status RingWriter::Reserve(uint32_t payload_bytes, uint8_t** payload, uint32_t* wants) {
  const uint32_t need = RecordBytes(payload_bytes);
  uint32_t offset = position_ & (capacity_ - 1);
  const uint32_t to_end = capacity_ - offset;
  const uint32_t pad = need > to_end ? to_end : 0;
  const uint32_t total = pad + need;
  if (capacity_ - (position_ - peer_read_) < total) {
    if (const Status status = LoadPeer(); status != COROIPC_OK) return status;
    if (capacity_ - (position_ - peer_read_) < total) {
      *wants = total;
      return COROIPC_AGAIN;
    }
  }
  if (pad != 0) {
    // Only its first eight bytes exist: the smallest remainder of a ring is eight bytes.
    coroipc_record record = {};
    record.bytes = pad - COROIPC_PAD_RECORD_BYTES;
    record.kind = COROIPC_RECORD_PAD;
    std::memcpy(data_ + offset, &record, COROIPC_PAD_RECORD_BYTES);
    position_ += pad;
    offset = 0;
  }
  reserved_ = offset;
  *payload = data_ + offset + COROIPC_RECORD_BYTES;
  return COROIPC_OK;
}

void RingWriter::Publish() {
  published_ = position_;
  // ORDER record-published (seq_cst; pairs with the acquire in RingReader::LoadPeer): the record's
  // bytes are visible before the position that uncovers them. seq_cst and not release: the look at
  // reader_sleep follows.
  StoreSeqCst(words_->write_position, position_);
  // The reader's cache holds the lines of the next record from the last time round: fetch them for
  // writing now, while nobody waits, instead of in the next publication.
  uint8_t* const next = data_ + (position_ & (capacity_ - 1));
  __builtin_prefetch(next, 1);
  __builtin_prefetch(next + 64, 1);
}

Status RingWriter::Room(uint32_t wants, bool* room) {
  if (const Status status = LoadPeer(); status != COROIPC_OK) return status;
  *room = capacity_ - (position_ - peer_read_) >= wants;
  return COROIPC_OK;
}

bool RingWriter::RecordAt(uint32_t position, coroipc_record* header, uint32_t* bytes) const {
  const uint32_t offset = position & (capacity_ - 1);
  const uint32_t left = position_ - position;
  const uint32_t to_end = capacity_ - offset;
  // Positions are multiples of a pad's size, and `position` is not the last one: there is a pad's
  // room.
  const uint32_t most = left < to_end ? left : to_end;
  *header = {};
  CopyIn(header, data_ + offset, COROIPC_PAD_RECORD_BYTES);
  if (header->kind == COROIPC_RECORD_PAD) {
    *bytes = to_end;
    return left >= to_end && header->bytes == to_end - COROIPC_PAD_RECORD_BYTES;
  }
  if (most < COROIPC_RECORD_BYTES) return false;
  CopyIn(header, data_ + offset, sizeof *header);
  if (header->bytes > payload_bytes_max()) return false;
  *bytes = RecordBytes(header->bytes);
  return *bytes <= most;
}

Status RingReader::Init(coroipc_ring_words* words, uint8_t* data, uint32_t capacity) {
  words_ = words;
  data_ = data;
  capacity_ = capacity;
  position_ = published_ = LoadRelaxed(words->read_position);  // as in RingWriter::Init
  seen_ = position_;
  return Aligned(position_) ? COROIPC_OK : COROIPC_PROTOCOL;
}

Status RingReader::LoadPeer() {
  if (frozen_) return COROIPC_OK;
  // ORDER record-published (acquire; pairs with RingWriter::Publish).
  const uint32_t written = LoadAcquire(words_->write_position);
  // I1 and I5: it never goes back, and never past what we gave free.
  if (written - seen_ > capacity_ - (seen_ - published_)) return COROIPC_PROTOCOL;
  if (!Aligned(written)) return COROIPC_PROTOCOL;
  seen_ = written;
  return COROIPC_OK;
}

Status RingReader::Peek(coroipc_record* header, const uint8_t** payload) {
  // Looking twice may find less the second time, from who lies: nothing is left to advance over.
  peeked_ = 0;
  // At most two rounds: a pad ends the ring, and at offset 0 there can be none.
  for (;;) {
    if (position_ == seen_) {
      if (const Status status = LoadPeer(); status != COROIPC_OK) return status;
      if (position_ == seen_) return COROIPC_AGAIN;
    }
    const uint32_t available = seen_ - position_;
    const uint32_t offset = position_ & (capacity_ - 1);
    const uint32_t to_end = capacity_ - offset;
    const uint8_t* record = data_ + offset;
    uint64_t words[3];
    words[0] = LoadWide(record);
    coroipc_record first = {};
    std::memcpy(&first, words, sizeof words[0]);
    if (first.kind == COROIPC_RECORD_PAD) {
      // I3: a pad fills the ring's end exactly, and never the whole ring.
      if (offset == 0 || first.bytes != to_end - COROIPC_PAD_RECORD_BYTES || available < to_end) {
        return COROIPC_PROTOCOL;
      }
      position_ += to_end;
      continue;
    }
    if (available < COROIPC_RECORD_BYTES || to_end < COROIPC_RECORD_BYTES) return COROIPC_PROTOCOL;
    if (first.bytes > capacity_ / 2 - COROIPC_RECORD_BYTES) return COROIPC_PROTOCOL;
    const uint32_t total = RecordBytes(first.bytes);
    if (total > available || total > to_end) return COROIPC_PROTOCOL;
    words[1] = LoadWide(record + 8);
    words[2] = LoadWide(record + 16);
    std::memcpy(header, words, sizeof *header);
    *payload = record + COROIPC_RECORD_BYTES;
    peeked_ = total;
    return COROIPC_OK;
  }
}

void RingReader::PublishRead() {
  published_ = release_limit();
  // ORDER space-freed (seq_cst; pairs with RingWriter::LoadPeer).
  StoreSeqCst(words_->read_position, published_);
}

bool RingReader::LeaseLeavesRoom() const {
  const uint32_t half = capacity_ / 2;
  const uint32_t to_end = capacity_ - (position_ & (capacity_ - 1));
  const uint32_t total = half > to_end ? to_end + half : half;
  return LeaseAllows(total);
}

}  // namespace coroipc
