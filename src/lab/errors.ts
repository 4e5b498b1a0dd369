import { SluiceError } from '../errors.ts';

/** What the lab throws. `code` is stable: `LAB_SYSCALL`, `LAB_COMMAND`, `LAB_TOPOLOGY`, `LAB_PROBER`, `SCENARIO_*`. */
export class LabError extends SluiceError {
  override readonly name = 'LabError';
}
