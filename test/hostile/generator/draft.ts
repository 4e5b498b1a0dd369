/** An object while it is being drawn. */
import type { Dice } from '../../random/cluster.ts';

export interface HostilePlace {
  readonly namespace: string;
  /** The node whose agent is played against, and another one. */
  readonly node: string;
  readonly otherNode: string;
  /** Labels that pods of the namespace have. */
  readonly podLabels: Readonly<Record<string, string>>;
}

/** What fields write into. */
export interface Draft {
  readonly dice: Dice;
  readonly place: HostilePlace;
  readonly metadata: Record<string, unknown> & { name: string };
  readonly spec: Record<string, unknown>;
  readonly status: Record<string, unknown>;
  /** About so many bytes of JSON are left for a field. */
  readonly bytes: number;
}
