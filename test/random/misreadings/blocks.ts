/** Rows 19 to 22 and 36: which addresses a block means, and of which family. */
import { readPrefix } from '../../../src/policy/address.ts';
import { expectationOf } from '../probes.ts';
import { eachBlock, eachPeer, eachPod, type Fields } from '../rewrite.ts';
import type { Misreading } from './misreading.ts';
import { cannotBeRead, cidrOf, fieldsOf, hasKeys, isService, leaveOut, list } from './parts.ts';

const hasHostBits = (block: Fields): boolean => readPrefix(cidrOf(block))?.hostBits === true;
const hasLeadingZeros = (block: Fields): boolean => readPrefix(cidrOf(block))?.leadingZeros === true;

function coversItself(block: Fields): boolean {
  const cidr = readPrefix(cidrOf(block));
  return list(block['except']).some((text) => {
    const hole = readPrefix(String(text));
    if (cidr === undefined || hole === undefined || typeof cidr.prefix.address !== typeof hole.prefix.address) return false;
    return (
      hole.prefix.length <= cidr.prefix.length &&
      readPrefix(`${cidrOf(block).split('/')[0]}/${hole.prefix.length}`)?.prefix.address === hole.prefix.address
    );
  });
}

/** Of every rule of a policy. */
function blocksOf(spec: Fields): readonly Fields[] {
  const rules = [...fieldsOf(spec['ingress']), ...fieldsOf(spec['egress'])];
  const peers = rules.flatMap((rule) => [...fieldsOf(rule['from']), ...fieldsOf(rule['to'])]);
  return peers.flatMap((peer) => fieldsOf([peer['ipBlock']].filter((block) => block !== undefined)));
}

export const BLOCKS: readonly Misreading[] = [
  {
    row: 19,
    reading: 'an `except` holds for every block of its policy',
    objects: eachBlock((block, { spec }) => {
      const holes = blocksOf(spec).flatMap((other) => list(other['except']));
      return holes.length === 0 ? block : { ...block, except: [...new Set([...list(block['except']), ...holes])] };
    }),
  },
  { row: 19, reading: '`except` has no effect', objects: eachBlock((block) => leaveOut(block, 'except')) },
  { row: 20, reading: 'a block with host bits matches nothing', objects: eachBlock((block) => (hasHostBits(block) ? undefined : block)) },
  {
    row: 20,
    reading: 'a block with leading zeros matches nothing',
    objects: eachBlock((block) => (hasLeadingZeros(block) ? undefined : block)),
  },
  {
    row: 20,
    reading: 'an `except` that covers its whole block has no effect',
    objects: eachBlock((block) => (coversItself(block) ? { cidr: block['cidr'] } : block)),
  },
  {
    row: 21,
    reading: 'a block matches no pod',
    objects: eachBlock((block) => ({
      ...block,
      except: [...list(block['except']), cidrOf(block).includes(':') ? 'fd00:244::/32' : '10.244.0.0/16'],
    })),
    concerns: (probe) => probe.to !== probe.from,
  },
  {
    row: 22,
    reading: "the Service's address is judged",
    allowed: (world, probe) =>
      expectationOf(world, { leaving: { ...probe.leaving, destination: probe.via ?? probe.leaving.destination }, arriving: probe.arriving })
        .allowed,
    concerns: isService,
  },
  {
    row: 36,
    reading: "only the first of a pod's addresses counts",
    objects: eachPod((pod) =>
      list(pod.status['podIPs']).length > 1 ? { ...pod, status: { ...pod.status, podIPs: list(pod.status['podIPs']).slice(0, 1) } } : pod,
    ),
  },
  {
    row: 36,
    reading: 'a block of one family opens the other',
    objects: eachPeer((peer) => {
      const block = peer['ipBlock'];
      if (!hasKeys(block, 'cidr') || cannotBeRead(block) || Object.keys(peer).length > 1) return peer;
      return [peer, { ipBlock: { cidr: cidrOf(block).includes(':') ? '0.0.0.0/0' : '::/0' } }];
    }),
  },
];
