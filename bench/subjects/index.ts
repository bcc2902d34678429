// Every subject, in the order of the report. A new one is a file beside this and a line here.
import type { Subject } from '../subject.js'
import { coroipc } from './coroipc.js'
import { coroipcC, coroipcCNode } from './coroipc-c.js'
import { coroipcTraced } from './coroipc-traced.js'
import { coroipcTyped } from './coroipc-typed.js'
import { dbus } from './dbus.js'
import { floorC } from './floor-c.js'
import { floorJsBlocks } from './floor-js-blocks.js'
import { floorJsRing, floorJsRingInPlace } from './floor-js-ring.js'
import { floorJsSlots } from './floor-js-slots.js'
import { floorJs, floorNapi, floorNapiArena, floorNapiScope } from './floor-napi.js'
import { forkAdvanced, forkJson } from './fork.js'
import { grpc } from './grpc.js'
import { libqb } from './libqb.js'
import { nats } from './nats.js'
import { nodeIpc } from './node-ipc.js'
import { nodeNet } from './node-net.js'
import { shmTypedArray } from './shm-typed-array.js'
import { undici } from './undici.js'
import { workerAtomics, workerPort } from './worker.js'
import { zeromqC } from './zeromq-c.js'
import { zeromqJs } from './zeromq-js.js'

export const subjects: readonly Subject[] = [
  floorC,
  floorJs,
  floorJsRing,
  floorJsRingInPlace,
  floorJsSlots,
  floorJsBlocks,
  floorNapi,
  floorNapiScope,
  floorNapiArena,
  coroipc,
  coroipcC,
  coroipcCNode,
  coroipcTyped,
  coroipcTraced,
  nodeNet,
  libqb,
  zeromqC,
  zeromqJs,
  forkJson,
  forkAdvanced,
  workerPort,
  workerAtomics,
  nodeIpc,
  undici,
  grpc,
  dbus,
  shmTypedArray,
  nats,
]

export function findSubject(name: string): Subject {
  const subject = subjects.find((candidate) => candidate.name === name)
  if (subject === undefined) throw new Error(`no subject ${name}`)
  return subject
}
