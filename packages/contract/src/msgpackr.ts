/** `@coroipc/contract/msgpackr`: MessagePack, by the package msgpackr, which the program installs. */
import { Packr, Unpackr } from 'msgpackr'
import type { Codec } from './codec.js'

const packr = new Packr({ useRecords: false })
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true })
// msgpackr reads records all the same, and compiles a function of the names that a stranger gave to their members. It
// keeps definitions in this list: in one that is frozen there is no place for any.
Object.assign(unpackr, { structures: Object.freeze(Object.assign([], { sharedLength: 0 })) })

const theMsgpack: Codec<unknown> = {
  name: 'msgpack',
  // Written to msgpackr's own pool: it would not give ours back.
  encode: (value) => packr.pack(value),
  decode: (bytes) => unpackr.unpack(bytes) as unknown,
}

/**
 * MessagePack: smaller than JSON, with bytes and dates. Records, which msgpackr adds to it, do not decode. `T` is
 * believed; to have values validated, write `checked(msgpackr(), schema)`.
 */
export function msgpackr<T = unknown>(): Codec<T> {
  return theMsgpack as Codec<T>
}
