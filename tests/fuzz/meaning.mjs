// Reads JSON, each before a record separator, with JSON.parse; writes the digest of what each means, as meaning.py has it.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

const double = Buffer.alloc(8);

function units(text) {
  return Buffer.from(text, "utf16le").swap16().toString("hex");
}

function meaning(value) {
  if (value === null) return "n";
  if (value === true) return "t";
  if (value === false) return "f";
  if (typeof value === "number") {
    double.writeDoubleBE(value + 0);
    return "d" + double.toString("hex");
  }
  if (typeof value === "string") return "s" + units(value);
  if (Array.isArray(value)) return "[" + value.map(meaning).join(",") + "]";
  const members = Object.keys(value).map((key) => [units(key), value[key]]);
  members.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
  return "{" + members.map(([key, member]) => key + ":" + meaning(member)).join(",") + "}";
}

function read(line) {
  try {
    return createHash("sha1").update(meaning(JSON.parse(line))).digest("hex");
  } catch (error) {
    return String(error);
  }
}

const [, , source, target] = process.argv;
const lines = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(source)).split("\x1e");
writeFileSync(target, lines.slice(0, -1).map(read).join("\n") + "\n");
