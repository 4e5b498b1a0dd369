/** The interface that packets between nodes go through: whether there is one, and whether it can carry anything. */
import { SluiceError } from '../errors.ts';
import { formatAddress } from '../policy/address.ts';
import type { Evidence, KernelTables } from './evidence.ts';
import { externalOf } from './plan.ts';
import { blind, type CheckOutcome, foundBy, inOrder } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkInterface(evidence: Evidence): CheckOutcome {
  const { tables } = evidence;
  if ('blind' in tables) return blind(tables.blind);
  try {
    const { name, index } = externalOf(evidence, tables.seen);
    const link = tables.seen.links.find((each) => each.index === index);
    if (link?.up === true && link.running) return inOrder();
    return foundBy([
      {
        code: 'INTERFACE_DOWN',
        severity: 'error',
        subject: name,
        message: link?.up === true ? 'it is up and has no carrier: nothing is at the other end of it' : 'it is down',
        evidence: [`link ${name}: ${link?.up === true ? 'up' : 'down'}, ${link?.running === true ? 'running' : 'not running'}`],
        remedy:
          link?.up === true
            ? lines(
                '# No command here mends that: look at the cable, the switch, or the hypervisor’s side of it.',
                `ip -s link show dev ${word(name)}`,
              )
            : `ip link set dev ${word(name)} up`,
      },
    ]);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return foundBy([
      {
        code: 'NO_INTERFACE',
        severity: 'error',
        subject: 'interface',
        message: error.message,
        evidence: describeLinks(tables.seen),
        remedy: lines('# Say which one it is, by --iface NAME, here and to the network daemon. There are:', 'ip -brief address'),
      },
    ]);
  }
}

function describeLinks({ links, addresses, routes }: KernelTables): string[] {
  const defaults = routes.filter(({ destination }) => destination.length === 0);
  return [
    ...links.map(({ index, name, up }) => {
      const own = addresses.filter(({ link }) => link === index).map((each) => `${formatAddress(each.address)}/${each.prefixLength}`);
      return `link ${name}: ${up ? 'up' : 'down'}, ${own.length === 0 ? 'no address' : own.join(' ')}`;
    }),
    defaults.length === 0 ? 'no default route' : `default routes: ${defaults.length}`,
  ];
}
