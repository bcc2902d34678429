/** The error of a native's result, with what the native side knows beyond the number. */
import { addon } from './addon.js'
import { Status } from './abi.generated.js'
import { type ErrorDetails, type IpcError, ipcError } from './errors.js'

/** `result` as natives return it: `-status`. To be called right after the native that failed. */
export function nativeError(result: number, details: ErrorDetails = {}): IpcError {
  const status = -result
  if (status === Status.SYSTEM || status === Status.NO_MEMORY)
    return ipcError(status, { ...addon.lastError(), ...details })
  if (status === Status.VERSION)
    return ipcError(status, { peerVersion: addon.peerVersion(), ...details })
  return ipcError(status, details)
}
