/** JSON Schemas as short types, the way TypeScript writes them: for tables that people read. */
import type { JsonSchemaLike } from '@coroipc/ipcs'

/** Deeper parts are only told to be there. */
const DEPTH_MAX = 4

type Schema = Readonly<Record<string, unknown>>

const isSchema = (value: unknown): value is JsonSchemaLike =>
  typeof value === 'boolean' ||
  (typeof value === 'object' && value !== null && !Array.isArray(value))

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])

const part = (value: unknown, depth: number): string =>
  isSchema(value) ? schemaText(value, depth - 1) : 'unknown'

const union = (parts: readonly string[]): string => [...new Set(parts)].join(' | ')

function objectText(schema: Schema, depth: number): string {
  const { properties, additionalProperties } = schema
  const required = new Set(list(schema['required']))
  const members = Object.entries((properties as Schema | undefined) ?? {}).map(
    ([name, value]) => `${name}${required.has(name) ? '' : '?'}: ${part(value, depth)}`,
  )
  if (isSchema(additionalProperties) && typeof additionalProperties === 'object')
    members.push(`[name]: ${part(additionalProperties, depth)}`)
  return members.length === 0 ? 'object' : `{ ${members.join(', ')} }`
}

function arrayText(schema: Schema, depth: number): string {
  const tuple = list(schema['prefixItems'])
  if (tuple.length > 0) return `[${tuple.map((each) => part(each, depth)).join(', ')}]`
  const items = part(schema['items'], depth)
  return items.includes(' ') ? `(${items})[]` : `${items}[]`
}

function typeText(type: unknown, schema: Schema, depth: number): string {
  switch (type) {
    case 'object':
      return objectText(schema, depth)
    case 'array':
      return arrayText(schema, depth)
    default:
      return typeof type === 'string' ? type : 'unknown'
  }
}

/** `{ key: string, ttl?: integer }`; empty for no schema. */
export function schemaText(schema: JsonSchemaLike | undefined, depth: number = DEPTH_MAX): string {
  if (schema === undefined) return ''
  if (typeof schema === 'boolean') return schema ? 'any' : 'nothing'
  if (depth === 0) return '...'
  if ('const' in schema) return JSON.stringify(schema['const'])
  if (Array.isArray(schema['enum']))
    return union(schema['enum'].map((each) => JSON.stringify(each)))
  for (const word of ['anyOf', 'oneOf'])
    if (Array.isArray(schema[word])) return union(schema[word].map((each) => part(each, depth)))
  if (Array.isArray(schema['allOf']))
    return schema['allOf'].map((each) => part(each, depth)).join(' & ')
  const reference = schema['$ref']
  if (typeof reference === 'string') return reference.split('/').at(-1) ?? reference
  const { type } = schema
  if (Array.isArray(type)) return union(type.map((each) => typeText(each, schema, depth)))
  if (type === undefined && 'properties' in schema) return objectText(schema, depth)
  return type === undefined ? 'any' : typeText(type, schema, depth)
}
