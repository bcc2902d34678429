// Every case by its name.
import type { CaseName } from '../task.js'
import type { ClientCase } from './client-case.js'
import { dispatch } from './dispatch.js'
import { idleCpu } from './idle-cpu.js'
import { pipelined } from './pipelined.js'
import { rttAsync, rttSync } from './round-trip.js'

export const cases: Readonly<Record<CaseName, ClientCase>> = {
  'rtt-sync': rttSync,
  'rtt-async': rttAsync,
  pipelined,
  dispatch,
  'idle-cpu': idleCpu,
}
