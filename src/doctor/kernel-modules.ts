/** Whether the kernel can have the backend's devices at all. */
import type { BackendConf } from '../network/net-conf.ts';
import type { Evidence } from './evidence.ts';
import { blind, type CheckOutcome, foundBy, idle, inOrder } from './report.ts';
import { lines } from './shell-text.ts';

const MODULE_OF: Readonly<Record<BackendConf['type'], string | undefined>> = {
  vxlan: 'vxlan',
  ipip: 'ipip',
  wireguard: 'wireguard',
  udp: 'tun',
  'host-gw': undefined,
  alloc: undefined,
};

export function checkModules({ conf, modules, tables, kernelRelease }: Evidence): CheckOutcome {
  const { type } = conf.backend;
  const name = MODULE_OF[type];
  if (name === undefined) return idle(`the backend ${type} has no devices`);
  if ('seen' in tables && tables.seen.links.some(({ kind }) => kind === name)) return inOrder();
  if ('blind' in modules) return blind(modules.blind);
  const { present, available } = modules.seen;
  if (present.has(name)) return inOrder();
  if ('blind' in available) {
    return blind(
      `whether this kernel has ${name} is not known: there is no /sys/module/${name} and no such device, and ${available.blind}`,
    );
  }
  // What is not loaded is loaded by the kernel when the device is made.
  if (available.seen.has(name)) return inOrder();
  return foundBy([
    {
      code: 'MODULE_MISSING',
      severity: 'error',
      subject: name,
      message: `this kernel has no ${name}, and the backend ${type} needs it`,
      evidence: [
        `/sys/module/${name}: not there`,
        `/lib/modules/${kernelRelease}/modules.dep and modules.builtin: no ${name}`,
        `net-conf.json: Backend.Type ${type}`,
      ],
      remedy: lines(
        '# Where the distribution has it apart (Ubuntu: linux-modules-extra), install that first. Or take another backend.',
        `apt-get install linux-modules-extra-${kernelRelease}`,
        `modprobe ${name}`,
      ),
    },
  ]);
}
