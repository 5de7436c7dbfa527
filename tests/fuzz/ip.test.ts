import { fuzzSuite } from "./suite.ts";
import { cutTarget, reassemblyTarget } from "./targets/fragments.ts";

fuzzSuite("IP fragments", [cutTarget(), reassemblyTarget()]);
