/** nf_tables, conntrack and the netfilter log over netlink. */
export * from './netlink/attributes.ts';
export * from './netlink/errors.ts';
export * from './netlink/socket.ts';
export type * from './types.ts';

// nf_tables.
export { canonicalRule, sameDefinition } from './compare.ts';
export { NftConnection, type ObjectReference, type SetReference, type TableReference } from './connection.ts';
export { rangeElements } from './nftables/element.ts';
export { describeOperation, TransactionError, type TransactionOptions } from './transaction.ts';

// What listens, and conntrack.
export { Conntrack, type FlowOutcome } from './conntrack/conntrack.ts';
export type { FlowChange, FlowKey, MaskedLabels, MaskedMark } from './conntrack/change.ts';
export { ConntrackEvents, type ConntrackEventsOptions, type FlowEvent, type FlowEventKind } from './conntrack/events.ts';
export type { FlowFilter, TupleFilter } from './conntrack/filter.ts';
export { FLOW_STATUS, type Flow, type FlowFamily, hasLabel, labelBits, type Tuple } from './conntrack/flow.ts';
export type { ChangedObject, MonitorEvent, MonitorOverrun, RulesetChange, RulesetGeneration } from './monitor/change.ts';
export { Monitor, type MonitorOptions } from './monitor/monitor.ts';
export type { LoggedPacket, LogHook } from './nflog/message.ts';
export { PacketLog, type PacketLogEvent, type PacketLogOptions } from './nflog/packet-log.ts';
export { type PacketHeader, readPacket } from './nflog/packet.ts';
export { listen, type MessageListener } from './poller/listen.ts';
export { Poller, type PollerOptions } from './poller/poller.ts';
