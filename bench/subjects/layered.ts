// Of this library with something on top of it: the rows in which a message is small and both sides are awake, so that
// what is on top can be seen.
import type { Task } from '../task.js'

const CASES: readonly string[] = ['rtt-sync', 'rtt-async', 'pipelined']

/** `refuses` of such a subject. */
export function refusesLayered(task: Task): string | undefined {
  return CASES.includes(task.case) &&
    task.variant === undefined &&
    task.payloadBytes === 64 &&
    task.wait === 'adaptive' &&
    task.form !== 'callback'
    ? undefined
    : 'small messages between sides that are awake show the layer'
}
