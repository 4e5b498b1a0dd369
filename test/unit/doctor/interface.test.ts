import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readModules } from '../../../src/doctor/collect-kernel.ts';
import { checkInterface } from '../../../src/doctor/interface.ts';
import { checkModules } from '../../../src/doctor/kernel-modules.ts';
import { codesOf, conf, HEALTHY, LINKS, node, nodeWithLinks, nodeWithTables, TABLES, theFinding } from './healthy-node.ts';

describe('the check interface', () => {
  it('finds nothing where the interface is there and up', () => {
    assert.deepEqual(checkInterface(HEALTHY), { findings: [] });
  });

  it('finds that there is none, with what there is', () => {
    const routes = TABLES.routes.filter(({ destination }) => destination.length > 0);
    const finding = theFinding(checkInterface(nodeWithTables({ routes })), 'NO_INTERFACE');
    assert.match(finding.message, /no IPv4 default route/);
    assert.ok(finding.evidence.includes('link eth0: up, 172.18.0.1/24 fd00:172:18::1/64'), finding.evidence.join('\n'));
    assert.ok(finding.evidence.includes('no default route'));
  });

  it('takes the interface that was named', () => {
    const evidence = nodeWithTables({ routes: [] });
    const interfaces = { ...evidence.settings.interfaces, iface: ['eth0'] };
    assert.deepEqual(codesOf(checkInterface({ ...evidence, settings: { ...evidence.settings, interfaces } })), []);
  });

  it('finds that it is down, or has no carrier', () => {
    const down = theFinding(checkInterface(nodeWithLinks({ eth0: { up: false, running: false } })), 'INTERFACE_DOWN');
    assert.match(down.message, /it is down/);
    assert.equal(down.remedy, 'ip link set dev eth0 up');
    const loose = theFinding(checkInterface(nodeWithLinks({ eth0: { running: false } })), 'INTERFACE_DOWN');
    assert.match(loose.message, /no carrier/);
    assert.doesNotMatch(loose.remedy, /link set/);
  });
});

describe('the check modules', () => {
  const without = LINKS.filter(({ kind }) => kind !== 'vxlan');
  const absent = (available: ReadonlySet<string>) =>
    node({ tables: { seen: { ...TABLES, links: without } }, modules: { seen: { present: new Set(), available: { seen: available } } } });

  it('finds nothing where there is such a device, where the module is loaded, and where it can be', () => {
    assert.deepEqual(codesOf(checkModules(HEALTHY)), []);
    assert.deepEqual(checkModules(node({ tables: { seen: { ...TABLES, links: without } } })), { findings: [] });
    assert.deepEqual(checkModules(absent(new Set(['vxlan']))), { findings: [] });
  });

  it('finds that the kernel has none', () => {
    const finding = theFinding(checkModules(absent(new Set(['ipip']))), 'MODULE_MISSING');
    assert.equal(finding.subject, 'vxlan');
    assert.match(finding.remedy, /^modprobe vxlan$/m);
  });

  it('says that it cannot tell where nothing tells of modules', () => {
    const evidence = { ...absent(new Set()), modules: { seen: { present: new Set<string>(), available: { blind: 'no /lib/modules' } } } };
    assert.match(checkModules(evidence).blind ?? '', /vxlan is not known: .*no \/lib\/modules/);
  });

  it('has nothing to look at where the backend has no devices', () => {
    assert.match(checkModules(node({ conf: conf({ Backend: { Type: 'host-gw' } }) })).idle ?? '', /host-gw has no devices/);
  });

  it('reads the modules of a kernel from modules.dep and modules.builtin', () => {
    const root = mkdtempSync(join(tmpdir(), 'doctor-'));
    try {
      mkdirSync(join(root, 'sys/module/vxlan'), { recursive: true });
      mkdirSync(join(root, 'lib/modules/6.1.0'), { recursive: true });
      writeFileSync(
        join(root, 'lib/modules/6.1.0/modules.dep'),
        'kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/tunnel4.ko.xz\nkernel/a/br-x.ko:\n',
      );
      writeFileSync(join(root, 'lib/modules/6.1.0/modules.builtin'), 'kernel/drivers/net/wireguard/wireguard.ko\n');
      const modules = readModules('6.1.0', root);
      assert.ok('seen' in modules && 'seen' in modules.seen.available);
      assert.deepEqual([...modules.seen.present], ['vxlan']);
      assert.deepEqual([...modules.seen.available.seen].toSorted(), ['br_x', 'ipip', 'wireguard']);
      const other = readModules('6.2.0', root);
      assert.ok('seen' in other && 'blind' in other.seen.available);
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});
