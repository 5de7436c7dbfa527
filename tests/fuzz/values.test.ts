import { fuzzSuite } from "./suite.ts";
import { VALUES } from "./targets/values.ts";

fuzzSuite("values", [VALUES]);
