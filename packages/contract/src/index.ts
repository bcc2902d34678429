/**
 * `@coroipc/contract`: a service described once, for both sides: its types, what is checked at run time, and how values
 * become bytes. `@coroipc/contract/server` and `/client` make the two sides of it.
 */
export { Encoded, type Encoder } from '@coroipc/native'
export { bytes, type Codec, json, structured, utf8 } from './codec.js'
export {
  type Checked,
  checked,
  type Contract,
  type ContractLimits,
  type Definition,
  defineService,
  type DispatchDefinition,
  type DispatchInput,
  type DispatchName,
  type DispatchOutput,
  type JsonSchema,
  type OneWayName,
  type Received,
  type RequestDefinition,
  type RequestInput,
  type RequestName,
  type RequestOutput,
  type ResponseInput,
  type ResponseOutput,
  type Schema,
  type Sent,
  type ServiceDescription,
  type Shape,
} from './define.js'
export { ContractError, type ContractErrorCode, type Issue, StatusError } from './error.js'
