// Options of tests about memory that both processes see. A host without external buffers shows none (npm test -- --addon=copying);
// there the same calls work on copies, which the other tests show.
import { addon } from '@coroipc/native'

export const sharedMemory: { skip?: string } = addon.externalBuffers
  ? {}
  : { skip: 'the host allows no external buffers: what would be shared is copied' }
