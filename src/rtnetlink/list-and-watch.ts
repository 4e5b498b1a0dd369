/** How rtnetlink gives whole tables, and how it tells of what changes in them: the same for links, addresses, routes, neighbours. */
import { listen, type Message, type MessageWriter, type NetlinkError, type NetlinkSocket, NLM_F_DUMP, type Poller } from 'nftables-js';

/** Events were lost: list again. */
export interface Overrun {
  readonly event: 'overrun';
  readonly cause: NetlinkError;
}

/**
 * Asks for a table (RTM_GET…), and reads every entry of it. A table that changed meanwhile is read again from its start.
 *
 * @param request RTM_GET…; its answers are the RTM_NEW… of the same kind
 * @param write the header of the request, and what filters it
 * @param read undefined for what does not belong into the list
 * @param doing for errors, as in `listing links`
 */
export function listTable<Entry>(
  socket: NetlinkSocket,
  request: number,
  write: (writer: MessageWriter) => void,
  read: (payload: Uint8Array) => Entry | undefined,
  doing: string,
): Entry[] {
  let entries: Entry[] = [];
  // linux/rtnetlink.h: of each kind there are NEW, DEL and GET, in this order.
  const answer = request - 2;
  socket.request(
    request,
    NLM_F_DUMP,
    write,
    (message) => {
      const entry = message.type === answer ? read(message.payload) : undefined;
      if (entry !== undefined) entries.push(entry);
    },
    doing,
    () => {
      entries = [];
    },
  );
  return entries;
}

/**
 * Joins groups (RTNLGRP_*), and gives their messages on, read.
 *
 * @param socket an open rtnetlink socket, used for nothing else
 * @returns ends it; the socket stays open
 */
export function watchGroups<Event>(
  poller: Poller,
  socket: NetlinkSocket,
  groups: readonly number[],
  read: (message: Message) => Event | undefined,
  onEvent: (event: Event | Overrun) => void,
): () => void {
  for (const group of groups) socket.join(group);
  return listen(poller, socket, {
    message: (message) => {
      const event = read(message);
      if (event !== undefined) onEvent(event);
    },
    lost: (cause) => onEvent({ event: 'overrun', cause }),
  });
}
