/**
 * Linux MIB counters: every name of /proc/net/snmp and /proc/net/netstat (6.18), in their order, zero where unused.
 *
 * `mib.values[MibId.TcpExtListenOverflows]++` on the packet path; names only for those who print.
 */

/** Group → counters, in /proc order. */
export const MIB_GROUPS = {
  Ip: [
    "Forwarding", "DefaultTTL", "InReceives", "InHdrErrors", "InAddrErrors", "ForwDatagrams", "InUnknownProtos",
    "InDiscards", "InDelivers", "OutRequests", "OutDiscards", "OutNoRoutes", "ReasmTimeout", "ReasmReqds", "ReasmOKs",
    "ReasmFails", "FragOKs", "FragFails", "FragCreates", "OutTransmits",
  ],
  Icmp: [
    "InMsgs", "InErrors", "InCsumErrors", "InDestUnreachs", "InTimeExcds", "InParmProbs", "InSrcQuenchs", "InRedirects",
    "InEchos", "InEchoReps", "InTimestamps", "InTimestampReps", "InAddrMasks", "InAddrMaskReps", "OutMsgs", "OutErrors",
    "OutRateLimitGlobal", "OutRateLimitHost", "OutDestUnreachs", "OutTimeExcds", "OutParmProbs", "OutSrcQuenchs",
    "OutRedirects", "OutEchos", "OutEchoReps", "OutTimestamps", "OutTimestampReps", "OutAddrMasks", "OutAddrMaskReps",
  ],
  Tcp: [
    "RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn", "ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets",
    "CurrEstab", "InSegs", "OutSegs", "RetransSegs", "InErrs", "OutRsts", "InCsumErrors",
  ],
  Udp: [
    "InDatagrams", "NoPorts", "InErrors", "OutDatagrams", "RcvbufErrors", "SndbufErrors", "InCsumErrors",
    "IgnoredMulti", "MemErrors",
  ],
  TcpExt: [
    "SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed", "EmbryonicRsts", "PruneCalled", "RcvPruned", "OfoPruned",
    "OutOfWindowIcmps", "LockDroppedIcmps", "ArpFilter", "TW", "TWRecycled", "TWKilled", "PAWSActive", "PAWSEstab",
    "BeyondWindow", "TSEcrRejected", "PAWSOldAck", "PAWSTimewait", "DelayedACKs", "DelayedACKLocked", "DelayedACKLost",
    "ListenOverflows", "ListenDrops", "TCPHPHits", "TCPPureAcks", "TCPHPAcks", "TCPRenoRecovery", "TCPSackRecovery",
    "TCPSACKReneging", "TCPSACKReorder", "TCPRenoReorder", "TCPTSReorder", "TCPFullUndo", "TCPPartialUndo",
    "TCPDSACKUndo", "TCPLossUndo", "TCPLostRetransmit", "TCPRenoFailures", "TCPSackFailures", "TCPLossFailures",
    "TCPFastRetrans", "TCPSlowStartRetrans", "TCPTimeouts", "TCPLossProbes", "TCPLossProbeRecovery",
    "TCPRenoRecoveryFail", "TCPSackRecoveryFail", "TCPRcvCollapsed", "TCPBacklogCoalesce", "TCPDSACKOldSent",
    "TCPDSACKOfoSent", "TCPDSACKRecv", "TCPDSACKOfoRecv", "TCPAbortOnData", "TCPAbortOnClose", "TCPAbortOnMemory",
    "TCPAbortOnTimeout", "TCPAbortOnLinger", "TCPAbortFailed", "TCPMemoryPressures", "TCPMemoryPressuresChrono",
    "TCPSACKDiscard", "TCPDSACKIgnoredOld", "TCPDSACKIgnoredNoUndo", "TCPSpuriousRTOs", "TCPMD5NotFound",
    "TCPMD5Unexpected", "TCPMD5Failure", "TCPSackShifted", "TCPSackMerged", "TCPSackShiftFallback", "TCPBacklogDrop",
    "PFMemallocDrop", "TCPMinTTLDrop", "TCPDeferAcceptDrop", "IPReversePathFilter", "TCPTimeWaitOverflow",
    "TCPReqQFullDoCookies", "TCPReqQFullDrop", "TCPRetransFail", "TCPRcvCoalesce", "TCPOFOQueue", "TCPOFODrop",
    "TCPOFOMerge", "TCPChallengeACK", "TCPSYNChallenge", "TCPFastOpenActive", "TCPFastOpenActiveFail",
    "TCPFastOpenPassive", "TCPFastOpenPassiveFail", "TCPFastOpenListenOverflow", "TCPFastOpenCookieReqd",
    "TCPFastOpenBlackhole", "TCPSpuriousRtxHostQueues", "BusyPollRxPackets", "TCPAutoCorking", "TCPFromZeroWindowAdv",
    "TCPToZeroWindowAdv", "TCPWantZeroWindowAdv", "TCPSynRetrans", "TCPOrigDataSent", "TCPHystartTrainDetect",
    "TCPHystartTrainCwnd", "TCPHystartDelayDetect", "TCPHystartDelayCwnd", "TCPACKSkippedSynRecv", "TCPACKSkippedPAWS",
    "TCPACKSkippedSeq", "TCPACKSkippedFinWait2", "TCPACKSkippedTimeWait", "TCPACKSkippedChallenge", "TCPWinProbe",
    "TCPKeepAlive", "TCPMTUPFail", "TCPMTUPSuccess", "TCPDelivered", "TCPDeliveredCE", "TCPAckCompressed",
    "TCPZeroWindowDrop", "TCPRcvQDrop", "TCPWqueueTooBig", "TCPFastOpenPassiveAltKey", "TcpTimeoutRehash",
    "TcpDuplicateDataRehash", "TCPDSACKRecvSegs", "TCPDSACKIgnoredDubious", "TCPMigrateReqSuccess",
    "TCPMigrateReqFailure", "TCPPLBRehash", "TCPAORequired", "TCPAOBad", "TCPAOKeyNotFound", "TCPAOGood",
    "TCPAODroppedIcmps",
  ],
  IpExt: [
    "InNoRoutes", "InTruncatedPkts", "InMcastPkts", "OutMcastPkts", "InBcastPkts", "OutBcastPkts", "InOctets",
    "OutOctets", "InMcastOctets", "OutMcastOctets", "InBcastOctets", "OutBcastOctets", "InCsumErrors", "InNoECTPkts",
    "InECT1Pkts", "InECT0Pkts", "InCEPkts", "ReasmOverlaps",
  ],
} as const;

export type MibGroup = keyof typeof MIB_GROUPS;
export type MibName = { [G in MibGroup]: `${G}${(typeof MIB_GROUPS)[G][number]}` }[MibGroup];

/** Every counter as nstat prints it ("TcpExtListenOverflows"), with its group. The position is the number. */
export const MIB_NAMES: readonly { readonly name: MibName; readonly group: MibGroup; readonly counter: string }[] = (
  Object.keys(MIB_GROUPS) as MibGroup[]
).flatMap((group) => MIB_GROUPS[group].map((counter) => ({ name: `${group}${counter}` as MibName, group, counter })));

/** nstat name → number. */
export const MibId = Object.freeze(Object.fromEntries(MIB_NAMES.map(({ name }, i) => [name, i]))) as {
  readonly [N in MibName]: number;
};

/** Constants Linux shows among the counters (RFC 4022: vanj, RTO bounds in ms, no connection limit; forwarding, TTL). */
const FIXED: readonly (readonly [MibName, number])[] = [
  ["TcpRtoAlgorithm", 1],
  ["TcpRtoMin", 200],
  ["TcpRtoMax", 120000],
  ["TcpMaxConn", -1],
  ["IpForwarding", 2],
  ["IpDefaultTTL", 64],
];

/** One host's counters. */
export class Mib {
  readonly values = new Float64Array(MIB_NAMES.length);

  constructor() {
    for (const [name, value] of FIXED) this.values[MibId[name]] = value;
  }

  get(name: MibName): number {
    return this.values[MibId[name]] as number;
  }

  /** All counters by nstat name. */
  snapshot(): Record<MibName, number> {
    return Object.fromEntries(MIB_NAMES.map(({ name }, i) => [name, this.values[i]])) as Record<MibName, number>;
  }
}
