import { fuzzSuite } from "./suite.ts";
import { HTTP_HEADERS, HTTP_LIMITS, HTTP_REQUEST } from "./targets/http.ts";
import { llhttpTarget } from "./targets/llhttp.ts";
import { SERVE_CONN } from "./targets/serve-conn.ts";

fuzzSuite("HTTP/1.1", [HTTP_REQUEST, HTTP_LIMITS, HTTP_HEADERS, llhttpTarget(), SERVE_CONN]);
