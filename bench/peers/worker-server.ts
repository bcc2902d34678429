// The server's half of the subjects of worker_threads: a thread of the client's process, which pins itself.
import { spawnSync } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { createServerWork } from '../server-work.js'
import { answerOn } from '../subjects/ordered.js'
import { serveSlots, type WorkerArguments } from '../subjects/worker.js'

const { task, cpu, slots } = workerData as WorkerArguments
const port = parentPort
if (port === null) throw new Error('this is no worker')
if (cpu !== null) {
  // "PID/task/TID", of the thread that asks: sched_setaffinity(2) is of a thread, and so is taskset.
  const thread = readlinkSync('/proc/thread-self').split('/').at(-1) as string
  const pinned = spawnSync('taskset', ['-p', '-c', String(cpu), thread], { encoding: 'utf8' })
  if (pinned.status !== 0) throw new Error(`taskset: ${pinned.stderr}`)
}
const work = createServerWork(task)
if (slots === undefined) {
  port.on('message', (client: MessagePort) => {
    const receiver = answerOn(
      {
        payload: (payload) => client.postMessage(payload),
        control: (word) => client.postMessage(word),
      },
      work,
      task,
    )
    client.on('message', (message: Uint8Array | number) => {
      if (typeof message === 'number') receiver.control(message)
      else receiver.payload(message)
    })
    client.on('close', () => receiver.ended())
  })
  port.postMessage('ready')
} else {
  port.postMessage('ready')
  serveSlots(slots, work, task)
}
