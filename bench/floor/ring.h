/* ring.h: the least ring that keeps the library's layout (native/include/coroipc/abi.h): the same
 * record header, the same 8-byte alignment, the same u32 positions 128 bytes apart, a pad record
 * before the end. One copy in by the writer, one copy out by the reader, as in the library's safe
 * mode.
 *
 * It is a floor, not a second library: two processes of one program trust each other, nothing is
 * negotiated, and only the checks that safe mode cannot do without are made.
 *
 *  I1  write_position - read_position <= capacity, both free-running counts of bytes.
 *  I2  Each side keeps its own position privately; the shared word only publishes it.
 *  I3  A record never wraps: what does not fit before the end is preceded by a pad record. */
#ifndef COROIPC_BENCH_RING_H
#define COROIPC_BENCH_RING_H

#include <coroipc/abi.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "program.h"

struct ring_writer {
  struct coroipc_ring_words* words;
  uint8_t* data;
  uint32_t capacity;
  uint32_t position;  /* own, I2 */
  uint32_t read_seen; /* the reader's position as last loaded */
};

struct ring_reader {
  struct coroipc_ring_words* words;
  const uint8_t* data;
  uint32_t capacity;
  uint32_t position;  /* own, I2 */
  uint32_t published; /* what read_position says */
};

/* The segment: control page, then the rings, each `ring_bytes`. Named for the ring's writer. */
struct segment {
  struct coroipc_control* control;
  uint8_t* rings;
  uint32_t ring_bytes;
};

static inline struct segment segment_create(uint32_t ring_bytes) {
  size_t bytes = sizeof(struct coroipc_control) + (size_t)ring_bytes * COROIPC_RINGS;
  int fd = memfd_create("coroipc-floor", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) fail("memfd_create");
  void* mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (mapping == MAP_FAILED) fail("mmap");
  close(fd);
  return (struct segment){mapping, (uint8_t*)mapping + sizeof(struct coroipc_control), ring_bytes};
}

static inline struct ring_writer segment_writer(const struct segment* segment, unsigned ring) {
  return (struct ring_writer){&segment->control->ring[ring],
                              segment->rings + (size_t)ring * segment->ring_bytes,
                              segment->ring_bytes, 0, 0};
}

static inline struct ring_reader segment_reader(const struct segment* segment, unsigned ring) {
  return (struct ring_reader){&segment->control->ring[ring],
                              segment->rings + (size_t)ring * segment->ring_bytes,
                              segment->ring_bytes, 0, 0};
}

static inline uint32_t record_bytes(uint32_t payload_bytes) {
  return (uint32_t)sizeof(struct coroipc_record) + ((payload_bytes + 7u) & ~7u);
}

/* Copies the record in. False: no room now, nothing written. Nobody sees it before ring_publish. */
static inline bool ring_write(struct ring_writer* writer, const struct coroipc_record* record,
                              const void* payload) {
  uint32_t mask = writer->capacity - 1;
  uint32_t bytes = record_bytes(record->bytes);
  uint32_t to_end = writer->capacity - (writer->position & mask);
  uint32_t pad = to_end < bytes ? to_end : 0;
  if (writer->position + pad + bytes - writer->read_seen > writer->capacity) {
    /* ORDER read-published (acquire; pairs with the release in ring_release): the reader has copied
     * these bytes out before we write over them. */
    writer->read_seen = __atomic_load_n(&writer->words->read_position, __ATOMIC_ACQUIRE);
    if (writer->position + pad + bytes - writer->read_seen > writer->capacity) return false;
  }
  if (pad != 0) {
    struct coroipc_record filler = {.bytes = pad - COROIPC_PAD_RECORD_BYTES,
                                    .kind = COROIPC_RECORD_PAD};
    memcpy(writer->data + (writer->position & mask), &filler, COROIPC_PAD_RECORD_BYTES);
    writer->position += pad;
  }
  uint8_t* place = writer->data + (writer->position & mask);
  memcpy(place, record, sizeof *record);
  memcpy(place + sizeof *record, payload, record->bytes);
  writer->position += bytes;
  return true;
}

static inline void ring_publish(struct ring_writer* writer) {
  /* ORDER record-published (seq_cst; pairs with the load in ring_written): the bytes are visible
   * before the position that uncovers them; seq_cst, not release, because the load of reader_sleep
   * that follows must not pass it (else the reader sleeps for ever). */
  __atomic_store_n(&writer->words->write_position, writer->position, __ATOMIC_SEQ_CST);
}

/* How far the writer has published. Loaded once a look; the caller works with the local. */
static inline uint32_t ring_written(const struct ring_reader* reader) {
  /* ORDER record-published: see ring_publish. */
  return __atomic_load_n(&reader->words->write_position, __ATOMIC_SEQ_CST);
}

/* The next record below `written`, where it lies; gone with ring_skip. */
static inline const uint8_t* ring_peek(struct ring_reader* reader, uint32_t written,
                                       struct coroipc_record* record, uint32_t payload_max) {
  uint32_t mask = reader->capacity - 1;
  for (;;) {
    uint32_t offset = reader->position & mask;
    memcpy(record, reader->data + offset, COROIPC_PAD_RECORD_BYTES);
    if (record->kind != COROIPC_RECORD_PAD) {
      memcpy(record, reader->data + offset, sizeof *record);
      uint32_t bytes = record_bytes(record->bytes);
      if (record->bytes > payload_max || bytes > written - reader->position ||
          bytes > reader->capacity - offset) {
        errno = EBADMSG;
        fail("ring_peek");
      }
      return reader->data + offset + sizeof *record;
    }
    if (record->bytes + COROIPC_PAD_RECORD_BYTES != reader->capacity - offset) {
      errno = EBADMSG;
      fail("ring_peek: pad");
    }
    reader->position += record->bytes + COROIPC_PAD_RECORD_BYTES;
  }
}

static inline void ring_skip(struct ring_reader* reader, const struct coroipc_record* record) {
  reader->position += record_bytes(record->bytes);
}

/* Copies one record below `written` out to private memory. */
static inline void ring_read(struct ring_reader* reader, uint32_t written,
                             struct coroipc_record* record, void* payload, uint32_t payload_max) {
  const uint8_t* place = ring_peek(reader, written, record, payload_max);
  memcpy(payload, place, record->bytes);
  ring_skip(reader, record);
}

static inline void ring_release(struct ring_reader* reader) {
  reader->published = reader->position;
  /* ORDER read-published: see ring_write. */
  __atomic_store_n(&reader->words->read_position, reader->position, __ATOMIC_RELEASE);
}

/* An eighth of the ring at a time: each store takes the line away from the writer. */
static inline void ring_release_lazily(struct ring_reader* reader) {
  if (reader->position - reader->published >= reader->capacity / 8) ring_release(reader);
}

#endif
