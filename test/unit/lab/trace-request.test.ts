import assert from 'node:assert/strict';
import type { Lab } from '../../../src/lab/lab.ts';
import { LabError } from '../../../src/lab/errors.ts';
import { checkTraceNames, parseTraceWish, resolveTrace } from '../../../src/lab/trace/request.ts';
import { resolveNode, resolveOutside, resolvePod, type PodSpec } from '../../../src/lab/topology.ts';
import { formatAddress } from '../../../src/policy/address.ts';

const NODES = ['n1', 'n2'].map((name, index) => resolveNode({ name }, index, ''));

/** As much of a lab as a request needs. */
function lab(...specs: readonly Omit<PodSpec, 'namespace'>[]): Lab {
  const pods = specs.map((spec) => {
    const node = NODES.find(({ name }) => name === spec.node) ?? assert.fail(spec.node);
    return resolvePod({ namespace: 'x', ...spec }, node, new Set(), '');
  });
  const outside = resolveOutside({ outside: ['192.0.2.10', '2001:db8::10'] });
  return {
    nodes: NODES,
    pods,
    outside,
    addresses: (name: string) => {
      const found =
        outside.get(name) ??
        NODES.find((node) => `node/${node.name}` === name)?.addresses ??
        pods.find(({ key }) => key === name)?.addresses;
      if (found === undefined) throw new LabError('LAB_TOPOLOGY', `there is no pod ${name}`);
      return found;
    },
  } as unknown as Lab;
}

const TWO_NODES = lab(
  { name: 'a', node: 'n1', addresses: ['10.244.0.5', 'fd00:10:244::5'] },
  { name: 'b', node: 'n1', addresses: ['10.244.0.6', 'fd00:10:244::6'], ports: [8080] },
  { name: 'c', node: 'n2', addresses: ['10.244.1.5', 'fd00:10:244:1::5'], ports: [53, 54] },
  { name: 'h', node: 'n1', hostNetwork: true },
);

function resolved(text: string, of = TWO_NODES, hostPorts?: readonly number[]): string {
  const { from, to, source, destination, protocol, port } = resolveTrace(of, parseTraceWish(text), hostPorts);
  return `${from} ${formatAddress(source)} -> ${to} ${formatAddress(destination)} ${port}/${protocol}`;
}

describe('which packet is traced', () => {
  it('is by itself one from the first pod to the first on another node, to a port that it listens on', () => {
    assert.equal(resolved(''), 'x/a 10.244.0.5 -> x/c 10.244.1.5 53/TCP');
    const oneNode = lab({ name: 'b', node: 'n1', addresses: ['10.244.0.6'] }, { name: 'a', node: 'n1', addresses: ['10.244.0.5'] });
    assert.equal(resolved('', oneNode), 'x/a 10.244.0.5 -> x/b 10.244.0.6 80/TCP');
    assert.equal(resolved('', lab({ name: 'a', node: 'n1', addresses: ['10.244.0.5'] })), 'x/a 10.244.0.5 -> outside 192.0.2.10 80/TCP');
    assert.throws(() => resolved('', lab()), /no two that a packet could go between/);
  });

  it('is by itself never one between pods without a family in common', () => {
    const mixed = lab(
      { name: 'a', node: 'n1', addresses: ['10.244.0.5'] },
      { name: 'b', node: 'n2', addresses: ['fd00:10:244:1::5'] },
      { name: 'c', node: 'n2', addresses: ['10.244.1.6'] },
    );
    assert.equal(resolved('', mixed), 'x/a 10.244.0.5 -> x/c 10.244.1.6 80/TCP');
  });

  it('is said by names, of pods, nodes and hosts outside', () => {
    assert.equal(resolved('x/b,node/n2'), 'x/b 10.244.0.6 -> node/n2 172.18.0.3 80/TCP');
    assert.equal(resolved('x/b,node/n2', TWO_NODES, [443]), 'x/b 10.244.0.6 -> node/n2 172.18.0.3 443/TCP');
    assert.equal(resolved(' outside , x/b '), 'outside 192.0.2.10 -> x/b 10.244.0.6 8080/TCP');
    assert.equal(resolved('node/n2,x/h'), 'node/n2 172.18.0.3 -> x/h 172.18.0.2 80/TCP');
  });

  it('is said by addresses, which decide the family', () => {
    assert.equal(resolved('x/a,fd00:10:244:1::5'), 'x/a fd00:10:244::5 -> x/c fd00:10:244:1::5 53/TCP');
    assert.equal(resolved('fd00:10:244::5,outside'), 'x/a fd00:10:244::5 -> outside 2001:db8::10 80/TCP');
    assert.equal(resolved('172.18.0.3,x/a'), 'node/n2 172.18.0.3 -> x/a 10.244.0.5 80/TCP');
    assert.equal(resolved('x/a,10.96.0.1'), 'x/a 10.244.0.5 -> undefined 10.96.0.1 80/TCP');
  });

  it('has the port and protocol that are given', () => {
    assert.equal(resolved('x/a,x/b,53/udp'), 'x/a 10.244.0.5 -> x/b 10.244.0.6 53/UDP');
    assert.equal(resolved('x/a,x/b,81/SCTP'), 'x/a 10.244.0.5 -> x/b 10.244.0.6 81/SCTP');
    assert.equal(resolved('x/a,x/b,icmp'), 'x/a 10.244.0.5 -> x/b 10.244.0.6 0/ICMP');
  });

  it('is refused where nobody could send it', () => {
    assert.throws(() => resolved('10.9.9.9,x/a'), /nobody in the lab has the address 10\.9\.9\.9/);
    assert.throws(() => resolved('x/a,x/a'), /have one address/);
    assert.throws(() => resolved('x/h,node/n1'), /have one address/);
    assert.throws(() => resolved('10.244.0.5,2001:db8::10'), /10\.244\.0\.5 \(IPv4\) and 2001:db8::10 \(IPv6\) have no family in common/);
    assert.throws(() => resolved('x/a,x/gone'), /--trace: there is no pod x\/gone/);
  });

  for (const text of ['x/a', 'x/a,', ',x/b', 'x/a,x/b,80', 'x/a,x/b,0/TCP', 'x/a,x/b,65536/UDP', 'x/a,x/b,80/TCP,more', 'x/a,x/b,'])
    it(`is none in "${text}", and it is said how to write one`, () => {
      assert.throws(() => parseTraceWish(text), { code: 'LAB_TRACE', exitStatus: 2, hint: /^Write FROM,TO/ });
    });

  it('is refused at once where a name is nobody’s, with those that there are', () => {
    const names = ['x/a', 'node/n1'];
    checkTraceNames(parseTraceWish(''), names);
    checkTraceNames(parseTraceWish('x/a,10.0.0.1'), names);
    assert.throws(() => checkTraceNames(parseTraceWish('x/a,x/z'), names), {
      message: '--trace: there is no x/z in the lab',
      hint: 'There are: node/n1, x/a.',
    });
  });
});
