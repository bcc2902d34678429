/** The way of what arrives: bound, decode, validate. Nothing of it throws; what is wrong is returned. */
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { Form } from './define.js'
import { boundedIssues, type Issue } from './error.js'

/** In place of a value: there is none. */
export class Invalid {
  readonly issues: readonly Issue[]
  readonly cause: unknown

  constructor(issues: readonly Issue[], cause?: unknown) {
    this.issues = issues
    this.cause = cause
  }
}

/** Makes a value of a payload. */
export type Receive = (payload: Uint8Array) => unknown

/**
 * What makes values of one kind of payload: a value, {@link Invalid}, or a promise of one of these where the schema is
 * asynchronous.
 *
 * @param form undefined: the payload is empty, or nobody looks at it
 */
export function receiver(
  form: Form | undefined,
  bytesMax: number | undefined,
  validates: boolean,
): Receive {
  if (form === undefined) return () => undefined
  const { codec } = form
  const max = bytesMax ?? Infinity
  const validate = validates ? form.schema?.['~standard'].validate : undefined
  return (payload) => {
    if (payload.length > max)
      return new Invalid([{ message: `${payload.length} bytes, at most ${max}` }])
    let value: unknown
    try {
      value = codec.decode(payload)
    } catch (error) {
      return new Invalid([{ message: `does not decode as ${codec.name}` }], error)
    }
    return validate === undefined ? value : validated(validate, value)
  }
}

type Validate = StandardSchemaV1.Props['validate']

/** Of a value that is there: what its schema makes of it. */
export function validated(validate: Validate, value: unknown): unknown {
  try {
    const result = validate(value)
    return result instanceof Promise ? result.then(outcome).catch(failed) : outcome(result)
  } catch (error) {
    return failed(error)
  }
}

function outcome(result: StandardSchemaV1.Result<unknown>): unknown {
  return result.issues === undefined ? result.value : new Invalid(boundedIssues(result.issues))
}

/** A schema that throws has not said yes. */
function failed(error: unknown): Invalid {
  return new Invalid([{ message: 'could not be validated' }], error)
}
