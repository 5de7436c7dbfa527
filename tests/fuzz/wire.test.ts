import { fuzzSuite } from "./suite.ts";
import { ARP, ETHERNET, ICMP, IPV4, TCP, TCP_OPTIONS, UDP } from "./targets/wire.ts";

fuzzSuite("wire formats", [ETHERNET, ARP, IPV4, ICMP, UDP, TCP, TCP_OPTIONS]);
