// Every case by its name.
import type { CaseName } from '../task.js'
import { bandwidth } from './bandwidth.js'
import type { ClientCase } from './client-case.js'
import { connect } from './connect.js'
import { dispatch } from './dispatch.js'
import { idleCpu } from './idle-cpu.js'
import { manyConnections } from './many-connections.js'
import { pipelined } from './pipelined.js'
import { rttAsync, rttSync } from './round-trip.js'
import { serverDeath } from './server-death.js'
import { zeroCopy } from './zero-copy.js'

export const cases: Readonly<Record<CaseName, ClientCase>> = {
  'rtt-sync': rttSync,
  'rtt-async': rttAsync,
  pipelined,
  dispatch,
  bandwidth,
  'zero-copy': zeroCopy,
  connect,
  'many-connections': manyConnections,
  'idle-cpu': idleCpu,
  'server-death': serverDeath,
}
