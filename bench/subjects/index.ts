// Every subject, in the order of the report. A new one is a file beside this and a line here.
import type { Subject } from '../subject.js'
import { coroipc } from './coroipc.js'
import { floorC } from './floor-c.js'
import { nodeNet } from './node-net.js'

export const subjects: readonly Subject[] = [floorC, coroipc, nodeNet]

export function findSubject(name: string): Subject {
  const subject = subjects.find((candidate) => candidate.name === name)
  if (subject === undefined) throw new Error(`no subject ${name}`)
  return subject
}
