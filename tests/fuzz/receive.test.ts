import { fuzzSuite } from "./suite.ts";
import { receiveTarget } from "./targets/receive.ts";

fuzzSuite("receive path", [receiveTarget()]);
