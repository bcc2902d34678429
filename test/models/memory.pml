// memory.pml: shared words under x86-TSO, the doorbell, and the accesses that the protocol makes. Included by the models.
//
// Each process has a store buffer of DEPTH entries, first in, first out. A relaxed or release store enters it and reaches
// memory any time later; a load finds the own buffer's newest entry first; a seq_cst store and an exchange wait until the
// buffer is empty (x86: xchg). Loads are never reordered with loads. A weaker machine is the business of the labels in
// ring.h and of the C++ memory model, not of these models.
//
// The doorbell is a socket that holds TOK bytes. Full means that enough was rung already. FAIL gives it the other failures,
// ENOBUFS say: then the doorbell is owed, and a timer rings it later.
#ifndef DEPTH
#define DEPTH 1
#endif
#ifndef TOK
#define TOK 1
#endif
#define NONE 255

byte mem[WORDS]
byte buffered_at[2] = NONE, buffered[2]
#if DEPTH == 2
byte newer_at[2] = NONE, newer[2]
#endif
byte socket[2]  // bytes that wait for process 0, for process 1
bit owed[2]     // a doorbell for it that could not be rung

#if DEPTH == 2
#define EMPTY(p) (buffered_at[p] == NONE)
#define LOAD(p, a) (newer_at[p] == a -> newer[p] : (buffered_at[p] == a -> buffered[p] : mem[a]))
#define STORE(p, a, v) atomic { newer_at[p] == NONE -> \
  if :: buffered_at[p] == NONE -> buffered_at[p] = a; buffered[p] = v \
     :: else -> newer_at[p] = a; newer[p] = v fi }
#else
#define EMPTY(p) (buffered_at[p] == NONE)
#define LOAD(p, a) (buffered_at[p] == a -> buffered[p] : mem[a])
#define STORE(p, a, v) atomic { EMPTY(p) -> buffered_at[p] = a; buffered[p] = v }
#endif
#define STORE_SEQ_CST(p, a, v) atomic { EMPTY(p) -> mem[a] = v }
#define EXCHANGE(p, a, v, old) atomic { EMPTY(p) -> old = mem[a]; mem[a] = v }

// Rings for the other process.
inline Ring(other) {
  if
  :: atomic { socket[other] < TOK -> socket[other]++ }
  :: socket[other] >= TOK
#ifdef FAIL
  :: true ->
#ifndef M_NOT_OWED
     owed[other] = 1
#endif
#endif
  fi
}

// Takes the word by which the other process declared itself asleep, and rings if it was set. `x` is scratch.
inline TakeByExchange(p, a, other, x) {
  x = LOAD(p, a)
  if
  :: x != 0 -> EXCHANGE(p, a, 0, x)
     if :: x != 0 -> Ring(other) :: else fi
  :: else
  fi
  x = 0
}

// The mistake: a plain clear can erase a sleep that began in between.
inline TakeByStore(p, a, other, x) {
  x = LOAD(p, a)
  if :: x != 0 -> STORE(p, a, 0); Ring(other) :: else fi
  x = 0
}

inline Shift(p) {
#if DEPTH == 2
  buffered_at[p] = newer_at[p]; buffered[p] = newer[p]; newer_at[p] = NONE; newer[p] = 0
#else
  buffered_at[p] = NONE; buffered[p] = 0
#endif
}

// Memory gets what is buffered, and the timer rings what is owed.
active proctype Machine() {
end:
  do
  :: atomic { buffered_at[0] != NONE -> mem[buffered_at[0]] = buffered[0]; Shift(0) }
  :: atomic { buffered_at[1] != NONE -> mem[buffered_at[1]] = buffered[1]; Shift(1) }
#ifdef FAIL
  :: atomic { owed[0] && socket[0] < TOK -> owed[0] = 0; socket[0]++ }
  :: atomic { owed[1] && socket[1] < TOK -> owed[1] = 0; socket[1]++ }
  :: atomic { owed[0] && socket[0] >= TOK -> owed[0] = 0 }
  :: atomic { owed[1] && socket[1] >= TOK -> owed[1] = 0 }
#endif
  od
}
