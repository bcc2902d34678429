/** `@coroipc/contract/msgpackr`: MessagePack, by the package msgpackr, which the program installs. */
import { Packr, Unpackr } from 'msgpackr'
import type { Codec } from './codec.js'

// No record structures: they would make one message depend on another, and be code made of a stranger's names.
const packr = new Packr({ useRecords: false })
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true })

const theMsgpack: Codec<unknown> = {
  name: 'msgpack',
  // Written to msgpackr's own pool: it would not give ours back.
  encode: (value) => packr.pack(value),
  decode: (bytes) => unpackr.unpack(bytes) as unknown,
}

/**
 * MessagePack: smaller than JSON, with bytes and dates. `T` is believed; to have values validated, write
 * `checked(msgpackr(), schema)`.
 */
export function msgpackr<T = unknown>(): Codec<T> {
  return theMsgpack as Codec<T>
}
