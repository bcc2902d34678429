// death.pml: connection.pml, and at any step the end of either process. Its stores have reached memory by the time that the
// kernel tells the other, by the socket or the pidfd. native/src/connection.cc: BeginFinalDrain, Turn, End.
//
// Checked: who survives reads all that was published before the death, once and in order, and then ends.
//
// HOLDS -DN=2 -DD=0 -DK=2 deaths: death of either side at any step
// HOLDS -DN=1 -DD=1 deaths: the same with dispatches
// LONG -DN=2 -DK=2 deaths: death of either side at any step, with dispatches
// MUTANT M_NO_HANGUP -DN=2 -DD=0 deaths hangs: the death is not seen in a wait
// MUTANT M_NO_DRAIN -DN=2 -DD=0 deaths violates: a death is reported without the last drain
// MUTANT M_DRAIN_ONE_TURN -DN=2 -DD=0 -DCQ=2 deaths violates: the last drain is bounded by one turn
// MUTANT M_DRAIN_OLD_LOOK -DN=2 -DD=0 deaths violates: the last drain reads up to what was seen before the hang-up
#define DEATH
#include "connection.pml"
