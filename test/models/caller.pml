// caller.pml: who takes a byte off the socket, and who sleeps. A client's loop, armed, and beside it calls that wait or look
// for themselves: a blocking call, a receive that does not wait (coroipcc_dispatch_receive with a timeout of 0) and, with
// -DTHREADS, a blocking call of another thread that spins while the loop sleeps. native/src/client_blocking.cc (Lead,
// NextDispatch), connection.cc (DrainSocket, Turn, Arm), loop.cc (MarkReady, Look).
//
// Memory is sequentially consistent here; ring.pml has the store buffers. The client has requests that wait for room in a ring
// of one record and answers that it waits for; the words are those of the two. The server takes a request, rings for its room
// if it must, answers, rings for that. What its one doorbell is for, nobody can tell from it.
//
// HOLDS: nobody sleeps over a word that is not armed
// HOLDS -DTHREADS: the same with a thread that spins beside a loop that sleeps
// MUTANT M_TRUST hangs: a loop trusts what it had armed before another call took the doorbell
// MUTANT M_TRUST -DTHREADS hangs: the same, when the call is one of another thread
// MUTANT M_LEAD_TRUST hangs: a blocking call clears the words of a connection that stays among the armed
//
// MarkReady in DrainSocket is what keeps the second rule of wake-up.md: nobody sleeps without having armed and looked since.
#ifndef N
#define N 3
#endif
byte written, taken        // request ring: one record of room
byte answered, got         // response ring
bit wants, sleeps          // writer_wants of the one, reader_sleep of the other
bit token                  // on the client's socket; the server's side needs none: it looks
bit lock, armed            // the loop's lock; the list that the connection is on: armed, or ready
byte queued                // waits for room
bit wake                   // the loop's eventfd

inline Ring(word) {
  if :: atomic { word -> word = 0 }; token = 1 :: !word fi
}

active proctype Server() {
  do
  :: taken < N ->
     written > taken; taken++; Ring(wants)
     // One-way messages but the last two have no answer.
     if :: taken > N - 2 -> answered++; Ring(sleeps) :: else fi
  :: else -> break
  od
}

inline Flush() {
  do
  :: queued > 0 && written - taken < 1 -> written++; queued--
  :: queued == 0 || written - taken >= 1 -> break
  od
}
// Takes what is on the socket. Who takes a doorbell cannot know which word it was rung for.
inline DrainSocket() {
  if
  :: atomic { token -> token = 0 }
#ifndef M_TRUST
     if :: armed -> armed = 0; wants = 0; sleeps = 0; wake = 1 :: else fi  // MarkReady
#endif
  :: !token
  fi
}
inline Turn() { Flush(); got = answered }
// What the doorbell was rung for may be taken first; the byte stays until the next turn.
inline TurnBefore() {
  if :: token && got != answered -> Turn() :: true fi
}
// A call that finds what it wants before the socket was read leaves that to whoever comes next.
inline TurnOfCall() {
  if :: token && got != answered -> Turn() :: DrainSocket(); Turn() fi
}
// ArmOrList; `ok`: it found nothing.
inline Arm(ok) {
  sleeps = 1
  if :: queued > 0 -> wants = 1 :: else fi
  ok = !(got != answered || queued > 0 && written - taken < 1)
  if :: !ok -> sleeps = 0; wants = 0 :: else fi
}

#define DONE (got == 2 && queued == 0)

active proctype Loop() {
  bit ok
  byte calls
  queued = N
  do
  :: DONE -> break
  :: else ->
     atomic { !lock -> lock = 1 }
     // Look: whoever is not armed gets a turn until it is.
     do
     :: !armed ->
        TurnBefore()
        DrainSocket()
        Turn()
        Arm(ok)
        if :: ok -> armed = 1 :: else fi
     :: else -> break
     od
     wake = 0
     lock = 0
     if
     :: DONE -> break
     :: else
     fi
     if
     :: token || wake  // sleeps on the socket, and on its eventfd
        -> armed = 0; wants = 0; sleeps = 0
#ifndef THREADS
     :: calls < 2 ->  // a timer of the application: it calls, then goes back to its loop
        calls++
        if
        :: // a receive that does not wait: one look
           TurnOfCall()
        :: // a blocking call for the next answer, or until its deadline
#ifndef M_LEAD_TRUST
           armed = 0
#endif
           wants = 0; sleeps = 0
           TurnOfCall()
        fi
#endif
     fi
  od
}

#ifdef THREADS
active proctype Caller() {
  byte looks
  do
  :: looks < 2 ->
     looks++
     atomic { !lock -> lock = 1 }
     TurnOfCall()
     lock = 0
  :: true -> break
  od
}
#endif
