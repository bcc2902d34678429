// The sweeps over calls and allocations, and what they have to find: a session of one round has every one of its system calls
// killed and failed, its descriptors and its memory taken away. Longer ones: `npm run sweep`, docs/internals/sweeps.md.
import t from 'tap'
import { sweep } from './run.js'

sweep(t, 'allocations', 'descriptors', 'mutants', 'errors', 'calls')
