// Labels of texts by model.onnx in Node, ids by sentencepiece in WebAssembly.
//
//     npm ci
//     node load.mjs ARTIFACT < texts.jsonl
//
// Each line of the input is a JSON object with a "text"; each line of the output, its three labels.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { SentencePieceProcessor } from "@sctg/sentencepiece-js";
import ort from "onnxruntime-node";

const artifact = process.argv[2];
const read = (name) => JSON.parse(readFileSync(join(artifact, name), "utf8"));
const { max_tokens: maxTokens } = read("manifest.json");
const labels = read("labels.json");
const tokenizer = new SentencePieceProcessor();
await tokenizer.load(join(artifact, "tokenizer.model"));
const session = await ort.InferenceSession.create(join(artifact, "model.onnx"), {
  intraOpNumThreads: 1,
});

const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
for (const line of lines) {
  let ids = tokenizer.encodeIds(JSON.parse(line).text).slice(0, maxTokens);
  if (ids.length === 0) ids = [1]; // a text without pieces is one unknown piece
  const { probabilities } = await session.run({
    tokens: new ort.Tensor("int32", Int32Array.from(ids), [1, ids.length]),
    lengths: new ort.Tensor("int32", Int32Array.of(ids.length), [1]),
  });
  const best = [...probabilities.data.keys()]
    .sort((one, other) => probabilities.data[other] - probabilities.data[one])
    .slice(0, 3);
  console.log(best.map((label) => labels[label]).join("\t"));
}
