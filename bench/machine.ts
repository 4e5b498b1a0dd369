/** What a measurement ran on, as far as it matters to the figures. */
import { cpus, release, totalmem } from 'node:os';

export interface Machine {
  readonly kernel: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
}

export function thisMachine(): Machine {
  const processors = cpus();
  return {
    kernel: release().replace(/^(\d+\.\d+\.\d+).*$/, '$1'),
    processor: processors[0]?.model ?? process.arch,
    cores: processors.length,
    memoryBytes: totalmem(),
    node: process.versions.node,
  };
}
