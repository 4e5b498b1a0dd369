/**
 * systemd's MACAddressPolicy: udev gives a new device another hardware address than the one that it was made with, unless that was given
 * by whoever made it. Told only where an overlay device has another one than its peers know.
 */
import type { Evidence, LinkFile } from './evidence.ts';
import { planOf, toldMac } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, inOrder } from './report.ts';
import { lines, writeFileCommand } from './shell-text.ts';

const FIX = '/etc/systemd/network/10-flannel.link';

export function checkLinkPolicy(evidence: Evidence): CheckOutcome {
  const { tables, leases, linkFiles } = evidence;
  if ('blind' in tables) return blind(tables.blind);
  if ('blind' in leases) return blind(leases.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const changed = plan.seen.devices.flatMap((device) => {
    if (device.kind !== 'vxlan') return [];
    const mac = toldMac(leases, typeof device.local === 'number' ? 4 : 6);
    const link = tables.seen.links.find(({ name }) => name === device.name);
    return mac !== undefined && link?.address !== undefined && link.address !== mac ? [{ name: device.name, mac, has: link.address }] : [];
  });
  if (changed.length === 0) return inOrder();
  if ('blind' in linkFiles) return blind(linkFiles.blind);
  const findings: Finding[] = changed.flatMap(({ name, mac, has }) => {
    const file = linkFiles.seen.find((each) => applies(each, name));
    const policy = file === undefined ? undefined : /^\s*MACAddressPolicy\s*=\s*(\S+)/im.exec(file.text)?.[1];
    if (file === undefined || policy === undefined || policy === 'none') return [];
    return [
      {
        code: 'MAC_ADDRESS_POLICY',
        severity: 'notice',
        subject: name,
        message: 'udev may have given it another hardware address, and will again when it is made anew',
        evidence: [`${file.path}: MACAddressPolicy=${policy}`, `link ${name}: address ${has}; told: ${mac}`],
        remedy: lines(
          writeFileCommand(FIX, '[Match]\nOriginalName=flannel*\n\n[Link]\nMACAddressPolicy=none\n'),
          'udevadm control --reload',
        ),
      },
    ];
  });
  return foundBy(findings);
}

/** Whether a file is the one for a device; where it asks for what is not known here, it is taken not to be. */
function applies({ text }: LinkFile, name: string): boolean {
  const [, section] = /^\s*\[Match\]([^[]*)/m.exec(text) ?? [];
  if (section === undefined) return false;
  const conditions = [...section.matchAll(/^\s*(\w+)\s*=\s*(.*?)\s*$/gm)];
  return (
    conditions.length > 0 &&
    conditions.every(([, key, value = '']) => {
      const patterns = value.split(/\s+/);
      if (key === 'OriginalName') return patterns.some((pattern) => globs(pattern, name));
      if (key === 'Driver' || key === 'Kind') return patterns.some((pattern) => globs(pattern, 'vxlan'));
      return false;
    })
  );
}

function globs(pattern: string, text: string): boolean {
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`)
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`).test(text);
}
