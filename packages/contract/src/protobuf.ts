/** `@coroipc/contract/protobuf`: Protocol Buffers, by the package @bufbuild/protobuf, which the program installs. */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import type { Codec } from './codec.js'

/**
 * The messages of a generated schema: takes what `create` takes, gives a message.
 *
 * @example
 * find: { id: 1, request: protobuf(FindRequestSchema), response: protobuf(FindResponseSchema) }
 */
export function protobuf<Desc extends DescMessage>(
  schema: Desc,
): Codec<MessageInitShape<Desc>, MessageShape<Desc>> {
  return {
    name: `protobuf:${schema.typeName}`,
    encode: (value) => toBinary(schema, create(schema, value)),
    decode: (bytes) => fromBinary(schema, bytes),
  }
}
