import assert from 'node:assert/strict';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Pod } from '../../../src/policy/objects.ts';
import { undeclaredPorts } from '../../../src/policy/undeclared-ports.ts';

function pod(name: string, app: string, ports: Pod['ports'], fields: Partial<Pod> = {}): Pod {
  return {
    namespace: 'x',
    name,
    uid: name,
    node: 'n',
    labels: new Map([['app', app]]),
    addresses: [],
    hostNetwork: false,
    terminal: false,
    createdAt: 0,
    ports,
    declaredPorts: [],
    ...fields,
  };
}

const POLICY = interpretPolicy('x', 'p', {
  podSelector: { matchLabels: { app: 'web' } },
  ingress: [{ ports: [{ port: 80 }, { port: 'http' }, { port: 'dns', protocol: 'UDP' }] }, {}],
  egress: [{ ports: [{ port: 'far' }] }],
});
const HTTP = { name: 'http', protocol: 'TCP', port: 8080 } as const;
const DNS = { name: 'dns', protocol: 'UDP', port: 53 } as const;
const paths = (pods: readonly Pod[]): string[] => undeclaredPorts(POLICY, pods).map(({ path }) => path);

describe('named ports that nobody declares', () => {
  it('are told where the policy selects pods, and none of them declares the name for the protocol', () => {
    assert.deepEqual(paths([pod('a', 'web', [HTTP])]), ['spec.ingress[0].ports[2].port']);
    assert.deepEqual(paths([pod('a', 'web', [HTTP, { ...DNS, protocol: 'TCP' }])]), ['spec.ingress[0].ports[2].port']);
    assert.deepEqual(paths([pod('a', 'web', [HTTP]), pod('b', 'web', [DNS])]), []);
  });

  it('are nothing to tell of while the policy selects nobody', () => {
    assert.deepEqual(paths([]), []);
    assert.deepEqual(paths([pod('a', 'db', []), pod('b', 'web', [], { terminal: true }), pod('c', 'web', [], { hostNetwork: true })]), []);
    assert.deepEqual(paths([pod('a', 'web', [], { namespace: 'y' })]), []);
  });

  it('say what to write instead', () => {
    const [first] = undeclaredPorts(POLICY, [pod('a', 'web', [DNS])]);
    assert.equal(first?.code, 'PORT_NAME_UNDECLARED');
    assert.match(first?.message ?? '', /declares a port "http" for TCP; the entry admits nothing/);
  });
});
