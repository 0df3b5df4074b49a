// Puts a Brotli and a gzip twin beside every text file of the build: the server hands out what the browser can take,
// and compresses nothing itself.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const TEXT = /\.(css|html|js|json|mjs|svg|txt|webmanifest)$/;

/** A twin that saves less than this is not worth a request header. */
const WORTHWHILE_BYTES = 256;

function twin(path, suffix, bytes, original) {
  if (original.length - bytes.length >= WORTHWHILE_BYTES) {
    writeFileSync(path + suffix, bytes);
  }
}

for (const entry of readdirSync("dist", { recursive: true, withFileTypes: true })) {
  const path = join(entry.parentPath, entry.name);
  // A page carries a fresh nonce in every answer, so it is never served compressed.
  if (!entry.isFile() || !TEXT.test(entry.name) || entry.name.endsWith(".html")) {
    continue;
  }
  const original = readFileSync(path);
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: original.length };
  twin(path, ".br", brotliCompressSync(original, { params }), original);
  twin(path, ".gz", gzipSync(original, { level: 9 }), original);
}
