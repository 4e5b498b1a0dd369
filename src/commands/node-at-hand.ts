/** Whose kernel a command asks, where it can ask no other. */
import type { AtHand } from '../audit/at-hand.ts';
import type { Inventory } from '../audit/inventory.ts';
import { nodeNames } from '../audit/node-rules.ts';
import { SluiceError } from '../errors.ts';

/**
 * Whose kernel is at hand.
 * @param asked `--node`
 * @throws SluiceError `NODE_MISSING` where nobody says, `NODE_NOT_AT_HAND` where it is another's
 */
export function whichNode(asked: string | undefined, hand: AtHand, inventory: Pick<Inventory, 'nodes' | 'pods'>): string {
  if (hand.node === undefined) {
    const names = nodeNames(inventory);
    throw new SluiceError('NODE_MISSING', 'nothing says which node’s kernel this is', {
      hint: `Say it with --node${names.length === 0 ? '' : `: ${names.slice(0, 10).join(', ')}${names.length > 10 ? ', …' : ''}`}.`,
      exitStatus: 2,
    });
  }
  if (asked !== undefined && asked !== hand.node) {
    throw new SluiceError('NODE_NOT_AT_HAND', `the kernel at hand is that of ${hand.node} (${hand.saidBy}), and not of ${asked}`, {
      hint: `Run it on ${asked}, or make a bundle there (sluice bundle).`,
      exitStatus: 2,
    });
  }
  return hand.node;
}
