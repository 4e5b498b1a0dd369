/** Records as an agent tells them. */
import type { AllowedFlow, Denied, Dropped, FlowEnd, Observing } from '../../../src/observability/observed-flow.ts';

export const WEB: FlowEnd = { address: '10.244.1.5', namespace: 'shop', pod: 'web-1', port: 40_000 };
export const DB: FlowEnd = { address: '10.244.2.7', namespace: 'shop', pod: 'db-0', port: 5432 };

export function denied(fields: Partial<Denied> = {}): Denied {
  return {
    kind: 'Denied',
    apiVersion: 'sluice.dev/v1',
    time: '2020-01-02T12:03:04.123Z',
    node: 'n1',
    source: WEB,
    destination: DB,
    protocol: 'TCP',
    protocolNumber: 6,
    direction: 'ingress',
    audited: false,
    policies: ['shop/db-only-from-api', 'shop/default-deny'],
    reason: 'refused',
    ...fields,
  };
}

export function allowed(fields: Partial<AllowedFlow> = {}): AllowedFlow {
  return {
    kind: 'Allowed',
    apiVersion: 'sluice.dev/v1',
    time: '2020-01-02T12:03:04.123Z',
    node: 'n1',
    source: WEB,
    destination: DB,
    protocol: 'TCP',
    protocolNumber: 6,
    egress: { allowed: true, reason: 'not-isolated', policies: [] },
    ingress: { allowed: true, reason: 'admitted', policies: ['shop/db-only-from-api'], place: 'ingress[0].from[0]' },
    ...fields,
  };
}

export function dropped(fields: Partial<Dropped> = {}): Dropped {
  return {
    kind: 'Dropped',
    apiVersion: 'sluice.dev/v1',
    time: '2020-01-02T12:03:05.000Z',
    node: 'n1',
    of: 'Denied',
    reason: 'rate',
    count: 11_832,
    ...fields,
  };
}

export function observing(fields: Partial<Observing> = {}): Observing {
  return {
    kind: 'Observing',
    apiVersion: 'sluice.dev/v1',
    time: '2020-01-02T12:03:04.000Z',
    node: 'n1',
    denied: 'on',
    allowed: 'not asked for',
    logGroup: 100,
    ...fields,
  };
}
