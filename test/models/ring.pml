// ring.pml: one ring, its two sleep words and the doorbell, both ways: a writer that waits for room, a reader that waits for
// records. native/src/ring.{h,cc}; of connection.cc Send, FlushBacklogs, Turn, GiveBack, Arm, Disarm.
//
// Positions run free and wrap (modulo 2 * CAP here, 2^32 there). Records of one or two cells, pads as in I3. The writer
// publishes each record or several at once, the reader reads up to B a turn and gives space back lazily (every K cells, at
// the end of a turn, before arming). Checked: every record arrives once, whole and in order (assertions), I1, nobody hangs
// (no invalid end state), and with -DNP nobody runs for ever without a record being moved.
//
// HOLDS -DN=5: no hang; every record arrives once, whole, in order
// HOLDS -DN=4 -DFAIL: the same when the doorbell may fail and is owed then
// HOLDS -DN=4 progress: nobody looks for ever
// LONG -DN=6 -DFAIL: the same, more records
// LONG -DN=6 progress: the same, more records
// MUTANT M_PUBLISH_RELEASE hangs: write_position published by a release store
// MUTANT M_FREE_RELEASE hangs: read_position published by a release store
// MUTANT M_SLEEP_RELEASE hangs: reader_sleep set by a release store
// MUTANT M_WANTS_RELEASE hangs: writer_wants set by a release store
// MUTANT M_SLEEP_PLAIN_CLEAR hangs: reader_sleep cleared by a plain store
// MUTANT M_WANTS_PLAIN_CLEAR hangs: writer_wants cleared by a plain store
// MUTANT M_ONLY_IF_ROOM -DN=5 hangs: writer_wants taken, but rung only if the room suffices
// MUTANT M_NO_LOOK_FOR_RECORD hangs: no second look after reader_sleep was set
// MUTANT M_NO_LOOK_FOR_ROOM hangs: no second look after writer_wants was set
// MUTANT M_NO_SPACE_CHECK violates: a record is written without room for it
// MUTANT M_UNPUBLISHED hangs: a batch that meets a full ring waits before it is published
// MUTANT M_LAZY_FOR_EVER -DK=4 hangs: read_position published only when a part of the ring was read
// MUTANT M_SOCKET_LAST hangs: the reader looks at the ring before it empties the socket
// MUTANT M_ROOM_SOCKET_LAST hangs: the writer looks for room before it empties the socket
// MUTANT M_TRUST_ARMED hangs: the reader sleeps again on a word whose doorbell was taken
// MUTANT M_SOCKET_NEVER progress spins: the socket is never emptied
// MUTANT M_NOT_OWED -DFAIL hangs: a doorbell that could not be sent is forgotten
// MUTANT M_WANTS_WITHOUT_PAD progress spins: writer_wants and the look for room leave out the pad
#ifndef N
#define N 4  // records
#endif
#define CAP 4
#ifndef K
#define K 2  // PublishDue
#endif
#ifndef B
#define B 2
#endif
#define DEPTH 2
#define WORDS 4
#define write_position 0
#define read_position 1
#define reader_sleep 2
#define writer_wants 3
#define P(x) ((x) & 7)
#define WRITER 0
#define READER 1
#define PAD 255
#include "memory.pml"

byte cell[CAP]

#ifdef M_PUBLISH_RELEASE
#define PUBLISH(v) STORE(WRITER, write_position, v)
#else
#define PUBLISH(v) STORE_SEQ_CST(WRITER, write_position, v)
#endif
#ifdef M_FREE_RELEASE
#define PUBLISH_READ(v) STORE(READER, read_position, v)
#else
#define PUBLISH_READ(v) STORE_SEQ_CST(READER, read_position, v)
#endif
#ifdef M_SLEEP_RELEASE
#define SET_SLEEP STORE(READER, reader_sleep, 1)
#else
#define SET_SLEEP STORE_SEQ_CST(READER, reader_sleep, 1)
#endif
#ifdef M_WANTS_RELEASE
#define SET_WANTS(v) STORE(WRITER, writer_wants, v)
#else
#define SET_WANTS(v) STORE_SEQ_CST(WRITER, writer_wants, v)
#endif

#ifdef M_SLEEP_PLAIN_CLEAR
#define TAKE_SLEEP(x) TakeByStore(WRITER, reader_sleep, READER, x)
#else
#define TAKE_SLEEP(x) TakeByExchange(WRITER, reader_sleep, READER, x)
#endif

inline TakeWants() {
#ifdef M_WANTS_PLAIN_CLEAR
  TakeByStore(READER, writer_wants, WRITER, x)
#else
#ifdef M_ONLY_IF_ROOM
  x = LOAD(READER, writer_wants)
  if
  :: x != 0 -> EXCHANGE(READER, writer_wants, 0, x)
     if :: x != 0 && CAP - P(seen - published) >= x -> Ring(WRITER) :: else fi
  :: else
  fi
  x = 0
#else
  TakeByExchange(READER, writer_wants, WRITER, x)
#endif
#endif
}

inline PublishWritten() {
  if
  :: position != published -> published = position; PUBLISH(position); TAKE_SLEEP(x)
  :: else
  fi
}

active proctype Writer() {
  byte position, published, peer_read, id, size, need, wants, x

  do
  :: id < N ->
     atomic { id++; if :: size = 1 :: size = 2 fi }
     do
     :: true ->
        d_step {  // Reserve
          need = size
          if :: (position % CAP) + size > CAP -> need = size + CAP - (position % CAP) :: else fi
        }
#ifndef M_NO_SPACE_CHECK
        if
        :: CAP - P(position - peer_read) < need ->
           atomic { peer_read = LOAD(WRITER, read_position); assert(P(published - peer_read) <= CAP) }
        :: else
        fi
        if
        :: CAP - P(position - peer_read) >= need
#else
        if
        :: true
#endif
           ->
           atomic {
             if :: need != size -> cell[position % CAP] = PAD; position = P(position + need - size) :: else fi
             cell[position % CAP] = id * 4 + size
             if :: size == 2 -> cell[position % CAP + 1] = id * 4 + 3 :: else fi
             position = P(position + size)
           }
           break
        :: else ->
           wants = need
#ifdef M_WANTS_WITHOUT_PAD
           wants = size
#endif
#ifndef M_UNPUBLISHED
           PublishWritten()  // or the reader never frees what we wait for
#endif
           SET_WANTS(wants)
#ifndef M_NO_LOOK_FOR_ROOM
           atomic { peer_read = LOAD(WRITER, read_position); x = CAP - P(position - peer_read) >= wants }
#endif
           if
           :: x != 0 -> x = 0; STORE(WRITER, writer_wants, 0)  // Disarm: the sleeper itself may clear plainly
           :: else ->
#ifdef M_ROOM_SOCKET_LAST
              socket[WRITER] = 0
#endif
              atomic { socket[WRITER] > 0 -> socket[WRITER] = 0 }
              STORE(WRITER, writer_wants, 0)
           fi
        fi
     od
progress:
     if
     :: PublishWritten()
     :: id < N  // a batch: more comes before it is published
     fi
  :: else -> break
  od
}

inline GiveBack() {
  if
  :: position != published -> published = position; PUBLISH_READ(position); TakeWants()
  :: else
  fi
}

active proctype Reader() {
  byte position, published, seen, id, n, x
turn:
#ifndef M_SOCKET_NEVER
  atomic { if :: socket[READER] > 0 -> socket[READER] = 0 :: else fi }
#endif
  n = 0
  do
  :: n < B ->
     if
     :: position == seen ->
        atomic { seen = LOAD(READER, write_position); assert(P(seen - published) <= CAP) }
        if :: position == seen -> break :: else fi
     :: else
     fi
     atomic {
       if
       :: cell[position % CAP] == PAD -> position = P(position + CAP - position % CAP)
       :: else
       fi
       id++
       assert(position != seen)
       assert(cell[position % CAP] / 4 == id)
       if
       :: cell[position % CAP] % 4 == 2 ->
          assert(cell[position % CAP + 1] == id * 4 + 3); position = P(position + 2)
       :: cell[position % CAP] % 4 == 1 -> position = P(position + 1)
       fi
       n++
     }
progress:
     if :: P(position - published) >= K -> GiveBack() :: else fi
  :: else -> break
  od
#ifndef M_LAZY_FOR_EVER
  GiveBack()
#endif
  if :: id == N -> goto fin :: else fi
  if :: n == B -> goto turn :: else fi
  if  // hot: it may look before it arms
  :: LOAD(READER, write_position) != position -> goto turn
  :: true
  fi
  SET_SLEEP
#ifndef M_NO_LOOK_FOR_RECORD
  if
  :: LOAD(READER, write_position) != position -> STORE(READER, reader_sleep, 0); goto turn
  :: else
  fi
#endif
#ifdef M_SOCKET_LAST
  socket[READER] = 0
#endif
  socket[READER] > 0
#ifdef M_TRUST_ARMED
again:
  atomic { socket[READER] > 0 -> socket[READER] = 0 }
  if :: LOAD(READER, write_position) == position -> goto again :: else fi
#endif
  STORE(READER, reader_sleep, 0)
  goto turn
fin:
  skip
}
