/**
 * Whose bytes are read by what is not meant for a stranger's. V8 checks the structured clones that it reads, but promises
 * nothing; and a server chooses by its own description how its payloads are read.
 */
import type { Connection } from '@coroipc/ipcc'
import { type Codec, type Readable, readable } from './codec.js'
import { flag, type Option, type Values } from './command.js'
import type { Output } from './output.js'

/** The option of commands that read payloads. */
export const trustOption: Option = {
  type: 'boolean',
  help: "read structured clones of another user's server too, as if it ran your code",
}

/**
 * Reads what this server sent. Structured clones only if it is of our own user, as the kernel says, or if `--trust` was
 * given: else they are shown as what no codec is known for, and the first time why.
 */
export function readerOf(
  { server: { uid } }: Pick<Connection, 'server'>,
  values: Values,
  output: Output,
): (codec: Codec | undefined, bytes: Uint8Array) => Readable {
  const trusted = uid === process.geteuid?.() || flag(values, 'trust')
  let told = false
  return (codec, bytes) => {
    if (trusted || codec?.forOwnUser !== true) return readable(codec, bytes)
    if (!told)
      output.note(
        `not read as a structured clone: the server is of another user (uid ${uid}); --trust reads it all the same`,
      )
    told = true
    return readable(undefined, bytes)
  }
}
