/** `sluice cleanup`: remove everything that an agent left on this node. */
import { Conntrack, type FlowChange, hasLabel, KernelError, labelBits, NETLINK_ROUTE, NetlinkSocket, NftConnection } from 'nftables-js';
import { Command } from 'commander';
import { CUT_LABEL } from '../enforcement/conntrack/flow-sweep.ts';
import { AgentClaim } from '../enforcement/nftables/agent-claim.ts';
import { FAMILY, TABLE } from '../enforcement/nftables/frame.ts';
import { SluiceError } from '../errors.ts';
import { listLinks, setBridgeFiltering } from '../rtnetlink/links.ts';
import { bridgeOption, cutMarkOption } from './agent-defaults.ts';
import { explainRefusal } from './net-admin.ts';

interface CleanupFlags {
  readonly bridge: readonly string[];
  readonly cutMark: number;
  readonly bridgeFiltering: boolean;
}

export function command(): Command {
  return new Command('cleanup')
    .description(
      'Remove every trace of Sluice from this node: its table, its marks on live flows, its flags of bridges. The agent has to be stopped first.',
    )
    .addOption(bridgeOption('bridges whose filtering flags the agent set'))
    .option('--no-bridge-filtering', 'leave the flags of the bridges as they are')
    .addOption(cutMarkOption('the bit of the ct mark that the agent used'))
    .action((flags: CleanupFlags) => {
      try {
        cleanup(flags);
      } catch (error) {
        throw explainRefusal(error, 'cleanup');
      }
    });
}

function cleanup(flags: CleanupFlags): void {
  // Held to the end, so that no agent begins meanwhile.
  const claim = AgentClaim.take();
  const table = removeTable();
  const flows = releaseFlows(flags.cutMark);
  const bridges = flags.bridgeFiltering ? resetBridges(flags.bridge) : [];
  claim.release();
  console.log(table ? `table ${FAMILY} ${TABLE}: removed` : `table ${FAMILY} ${TABLE}: was not there`);
  console.log(`live flows that were cut and may go on: ${flows}`);
  for (const name of bridges)
    console.log(`bridge ${name}: nf_call_iptables and nf_call_ip6tables switched off (the sysctls net.bridge.* are as they were)`);
}

function removeTable(): boolean {
  const connection = NftConnection.open();
  try {
    const known = connection.table({ family: FAMILY, name: TABLE });
    if (known === undefined) return false;
    if (known.owner !== undefined) {
      throw new SluiceError('TABLE_OWNED', `table ${FAMILY} ${TABLE} belongs to another program (netlink port ${known.owner})`, {
        hint: 'Stop that program first, then run `sluice cleanup` again.',
      });
    }
    connection.commit([{ op: 'delete', table: { family: FAMILY, name: TABLE } }]);
    return true;
  } finally {
    connection.close();
  }
}

function releaseFlows(cutMark: number): number {
  const conntrack = Conntrack.open();
  const mask = labelBits(CUT_LABEL);
  const changes: FlowChange[] = [];
  let count = 0;
  try {
    for (const flow of conntrack.flows()) {
      const marked = (flow.mark & cutMark) !== 0;
      const labelled = hasLabel(flow, CUT_LABEL);
      if (marked) changes.push({ change: 'mark', flow, mark: { value: 0, mask: cutMark } });
      if (labelled) changes.push({ change: 'labels', flow, labels: { value: new Uint8Array(mask.length), mask } });
      if (marked || labelled) count++;
    }
    for (const outcome of conntrack.apply(changes)) if (outcome instanceof KernelError) throw outcome;
  } finally {
    conntrack.close();
  }
  return count;
}

function resetBridges(names: readonly string[]): string[] {
  const socket = NetlinkSocket.open(NETLINK_ROUTE);
  try {
    return listLinks(socket).flatMap((link) => {
      if (link.bridge === undefined || !names.includes(link.name) || !(link.bridge.iptables || link.bridge.ip6tables)) return [];
      setBridgeFiltering(socket, link, { iptables: false, ip6tables: false });
      return [link.name];
    });
  } finally {
    socket.close();
  }
}
