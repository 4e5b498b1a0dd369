/**
 * What the file of an expression provides. The kernel knows expressions by name; one of them may be several kinds of `Expression`
 * (`meta` that reads and `meta` that sets).
 */
import type { Attributes, MessageWriter } from '../../netlink/attributes.ts';
import type { Expression } from '../../types.ts';

export type ExpressionKind = Expression['expr'];
export type ExpressionOf<Kind extends ExpressionKind> = Extract<Expression, { readonly expr: Kind }>;

export interface Codec<Kind extends ExpressionKind> {
  /** The kernel's name of it (NFTA_EXPR_NAME). */
  readonly name: string;
  /** Writes what is inside NFTA_EXPR_DATA. */
  readonly write: (writer: MessageWriter, expression: ExpressionOf<Kind>) => void;
  /**
   * Reads it. Undefined where it says more than `Expression` has words for: it is kept as `unknown` then.
   * @throws MalformedError
   */
  readonly read: (attributes: Attributes) => ExpressionOf<Kind> | undefined;
}
