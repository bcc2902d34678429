// The server's half of the subjects fork-json and fork-advanced: a child that its client forked.
import { createServerWork } from '../server-work.js'
import { decode, encode, type ForkArguments, type Message } from '../subjects/fork.js'
import { answerOn } from '../subjects/ordered.js'

const { task, text } = JSON.parse(process.argv[2] ?? '') as ForkArguments
const send = (message: Message): void => {
  process.send?.(message)
}
const receiver = answerOn(
  { payload: (payload) => send(encode(payload, text)), control: send },
  createServerWork(task),
  task,
)
process.on('message', (message: Message) => {
  if (typeof message === 'number') receiver.control(message)
  else receiver.payload(decode(message))
})
process.on('error', () => process.exit()) // its client left in the middle of a feed
process.on('disconnect', () => process.exit())
