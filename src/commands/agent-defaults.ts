/** Defaults of the agent that other commands show as well. */

/** NFLOG group of refused packets; 0 to 10 are in common use (ulogd, Docker's examples). */
export const DEFAULT_LOG_GROUP = 100;
