// ring.h: a byte ring with one writer and one reader in two processes that do not trust each other.
// No system call, no lock, no knowledge of what a record means.
//
// I1  write_position - read_position <= capacity, unsigned 32 bit; both are free-running counts of
// bytes. I2  Bytes in [read_position, write_position) are whole records; only the reader touches
// them. I3  A record never wraps; a pad record fills the end of the ring. A record with its header
// is at most capacity/2, so
//     that pad and record together (< 2 x record) always fit an empty ring, wherever it stands.
// I4  Each side's own position is private (`position_`); the shared word only publishes it and is
// never read back. I5  The other side's position is loaded once, checked against I1, and used from
// the local. A value that breaks
//     I1 ends the connection: PROTOCOL, no repair.
//
// Sleeping and waking (design: docs/internals/wake-up.md):
//   writer:  record ; Publish (seq_cst) ; TakeReaderSleep: load, then exchange -> ring the doorbell
//   if it was set reader:  look ; SetSleep (seq_cst) ; look again (seq_cst) ; block writer without
//   room:  SetWants (seq_cst) ; look again ; block reader:  PublishRead (seq_cst) ;
//   TakeWriterWants: load, then exchange -> ring if it was set, enough room or not
#ifndef COROIPC_SRC_RING_H
#define COROIPC_SRC_RING_H

#include <coroipc/abi.h>

#include <cstring>

#include "shared_word.h"
#include "status.h"

namespace coroipc {

inline constexpr uint32_t RecordBytes(uint32_t payload_bytes) {
  return (COROIPC_RECORD_BYTES + payload_bytes + (COROIPC_RECORD_ALIGN - 1)) &
         ~(COROIPC_RECORD_ALIGN - 1);
}

class RingWriter {
 public:
  // PROTOCOL: the position found in `words` is not one.
  Status Init(coroipc_ring_words* words, uint8_t* data, uint32_t capacity);

  // The largest payload that a record may carry inside the ring.
  uint32_t payload_bytes_max() const { return capacity_ / 2 - COROIPC_RECORD_BYTES; }

  // Room for a record: OK and where its payload goes. AGAIN: `*wants` bytes (pad included) are not
  // free. `payload_bytes` <= payload_bytes_max(). Nothing is visible before Publish.
  Status Reserve(uint32_t payload_bytes, uint8_t** payload, uint32_t* wants);
  // Reserve where nothing is to be found out: the room is known and no pad is due. nullptr: Reserve
  // says what is. Most records take this way, so that it is made of a few instructions.
  uint8_t* ReserveKnown(uint32_t payload_bytes) {
    if (payload_bytes > payload_bytes_max()) return nullptr;
    const uint32_t need = RecordBytes(payload_bytes);
    const uint32_t offset = position_ & (capacity_ - 1);
    if (need > capacity_ - offset || need > capacity_ - (position_ - peer_read_)) return nullptr;
    reserved_ = offset;
    return data_ + offset + COROIPC_RECORD_BYTES;
  }
  // Writes the header of what was reserved last and zeroes the padding behind its payload.
  void Commit(const coroipc_record& header) {
    const uint32_t total = RecordBytes(header.bytes);
    uint8_t* record = data_ + reserved_;
    // Field by field, atomic so that no compiler joins them: one wide load of a header that was
    // made field by field waits for all stores before it, those to lines that the reader still has
    // included. That was half of what a small message cost.
    auto& to = *reinterpret_cast<coroipc_record*>(record);
    StoreRelaxed(to.bytes, header.bytes);
    StoreRelaxed(to.id, header.id);
    StoreRelaxed(to.kind, header.kind);
    StoreRelaxed(to.flags, header.flags);
    StoreRelaxed(to.correlation, header.correlation);
    StoreRelaxed(to.status, header.status);
    StoreRelaxed(to.sequence, header.sequence);
    StoreRelaxed(to.argument, header.argument);
    // Unused bytes are zero: nothing of this process' memory, nor of an older message, travels
    // along.
    if (const uint32_t tail = total - COROIPC_RECORD_BYTES - header.bytes; tail != 0) {
      std::memset(record + COROIPC_RECORD_BYTES + header.bytes, 0, tail);
    }
    position_ += total;
  }

  // For statistics: bytes that the reader has not given back, as far as it says so now. What breaks
  // I1 is found by the next Reserve; here it only looks full.
  uint32_t used() const {
    const uint32_t used = position_ - LoadRelaxed(words_->read_position);
    return used <= capacity_ ? used : capacity_;
  }
  bool unpublished() const { return position_ != published_; }
  uint32_t unpublished_bytes() const { return position_ - published_; }
  void Publish();
  // True once for each time the reader declared itself asleep: ring its doorbell.
  bool TakeReaderSleep() {
    // ORDER reader-asleep (seq_cst; pairs with RingReader::SetSleep): after Publish; with a weaker
    // order both sides can miss each other and sleep for ever. Exchange, since a plain clear can
    // erase the next sleep.
    if (LoadSeqCst(words_->reader_sleep) == 0) return false;
    return ExchangeSeqCst(words_->reader_sleep, 0) != 0;
  }
  // ORDER writer-waits (seq_cst; pairs with RingReader::TakeWriterWants).
  void SetWants(uint32_t bytes) { StoreSeqCst(words_->writer_wants, bytes); }
  void ClearWants() { StoreRelaxed(words_->writer_wants, 0); }
  // Looks (seq_cst) whether `wants` bytes are free now. PROTOCOL as in Reserve.
  Status Room(uint32_t wants, bool* room);
  // `visit(header)` for each whole record, pads left out, that the reader has not given back. The
  // bytes were ours when we wrote them and may be anything now: whatever is no record ends it.
  template <typename Visit>
  void ForEachUnread(Visit visit) {
    if (LoadPeer() != COROIPC_OK) return;
    for (uint32_t at = peer_read_; at != position_;) {
      coroipc_record header;
      uint32_t total = 0;
      if (!RecordAt(at, &header, &total)) return;
      if (header.kind != COROIPC_RECORD_PAD) visit(header);
      at += total;
    }
  }

 private:
  Status LoadPeer();
  // What lies at a position of ours and how long it is; false: no record that ends before ours do.
  bool RecordAt(uint32_t position, coroipc_record* header, uint32_t* bytes) const;

  coroipc_ring_words* words_ = nullptr;
  uint8_t* data_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t position_ = 0;   // next byte to write
  uint32_t published_ = 0;  // last value of the shared word
  uint32_t peer_read_ = 0;  // last checked value of read_position
  uint32_t reserved_ = 0;   // offset of the reserved record
};

class RingReader {
 public:
  // PROTOCOL as in RingWriter::Init.
  Status Init(coroipc_ring_words* words, uint8_t* data, uint32_t capacity);

  // The next record: its header copied, its payload still in shared memory. AGAIN: the ring is
  // empty. PROTOCOL: a length, a kind or a position is impossible. Pads are skipped.
  Status Peek(coroipc_record* header, const uint8_t** payload);
  // Done with the record of the last Peek. Its space is given back by PublishRead.
  void Advance() {
    position_ += peeked_;
    peeked_ = 0;
  }

  // Cheap look (relaxed): is there something past our position?
  bool Ready() const { return LoadRelaxed(words_->write_position) != position_; }
  // ORDER look-again (seq_cst): after SetSleep, before blocking.
  bool ReadySeqCst() const { return LoadSeqCst(words_->write_position) != position_; }
  // Ready says yes: the record's first lines are on their way while the caller is on its way to
  // Peek.
  void Prefetch() const {
    const uint8_t* const next = data_ + (position_ & (capacity_ - 1));
    __builtin_prefetch(next);
    __builtin_prefetch(next + 64);  // past the ring's end it is a hint that leads nowhere
  }
  // For statistics: bytes that wait to be read, as RingWriter::used.
  uint32_t used() const {
    const uint32_t used = LoadRelaxed(words_->write_position) - position_;
    return used <= capacity_ ? used : capacity_;
  }
  // Bytes known to be waiting, from the last load.
  uint32_t seen_bytes() const { return seen_ - position_; }
  // The writer's position now, checked.
  Status LoadPeer();
  // After a death: nothing is read that the last LoadPeer did not see. Somebody may still write,
  // and must not keep us reading for ever.
  void Freeze() { frozen_ = true; }

  // Read but not given back, lease excluded.
  bool unpublished() const { return release_limit() != published_; }
  bool PublishDue() const { return release_limit() - published_ >= capacity_ / 8; }
  void PublishRead();
  // The bytes the writer waits for, once for each time it declared itself waiting; 0 if it does
  // not.
  uint32_t TakeWriterWants() {
    // ORDER writer-waits (seq_cst; pairs with RingWriter::SetWants): after PublishRead.
    if (LoadSeqCst(words_->writer_wants) == 0) return 0;
    return ExchangeSeqCst(words_->writer_wants, 0);
  }
  uint32_t PeekWriterWants() const { return LoadSeqCst(words_->writer_wants); }
  // ORDER reader-asleep (seq_cst; pairs with RingWriter::TakeReaderSleep).
  void SetSleep() { StoreSeqCst(words_->reader_sleep, 1); }
  // The sleeper may clear its own word plainly: a ring that is already on its way is a spurious
  // one.
  void ClearSleep() { StoreRelaxed(words_->reader_sleep, 0); }
  // The word that was set is gone: the writer has rung, or is about to. A hint.
  bool SleepTaken() const { return LoadRelaxed(words_->reader_sleep) == 0; }

  // A lease on the record of the last Peek (call before Advance): reading goes on past it, space is
  // given back only up to it. One at a time.
  void Lease() {
    leased_ = true;
    lease_position_ = position_;
  }
  void Unlease() { leased_ = false; }
  bool leased() const { return leased_; }
  // Whether the largest record still fits, while the lease is held and everything else is read.
  bool LeaseLeavesRoom() const;
  // Whether `wants` bytes could become free without the lease being ended.
  bool LeaseAllows(uint32_t wants) const {
    return capacity_ - (position_ - release_limit()) >= wants;
  }

 private:
  uint32_t release_limit() const { return leased_ ? lease_position_ : position_; }

  coroipc_ring_words* words_ = nullptr;
  uint8_t* data_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t position_ = 0;   // next byte to read
  uint32_t published_ = 0;  // last value of the shared word
  uint32_t seen_ = 0;       // last checked value of write_position
  uint32_t peeked_ = 0;     // size of the record of the last Peek
  uint32_t lease_position_ = 0;
  bool leased_ = false;
  bool frozen_ = false;
};

}  // namespace coroipc

#endif
