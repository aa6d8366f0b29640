// Labels of what is typed, by model.onnx in WebAssembly; the artifact is served as /artifact/.
//
//     cd ../node && npm ci && cd ../browser
//     python serve.py ARTIFACT          # then open the address it prints
//
// `classify(text)` is also there for other scripts: [[label, probability], ...], the best first.

import * as ort from "onnxruntime";
import { SentencePieceProcessor } from "sentencepiece";

const [text, list, status] = ["text", "labels", "status"].map((id) => document.getElementById(id));

async function fetchWhole(name) {
  const answer = await fetch(`/artifact/${name}`);
  if (!answer.ok) throw new Error(`${name}: expected a file, found HTTP ${answer.status}.`);
  return answer;
}

function toBase64(bytes) {
  let letters = "";
  for (const byte of bytes) letters += String.fromCharCode(byte);
  return btoa(letters);
}

async function load() {
  const [manifest, labels, tokenizerBytes, graph] = await Promise.all([
    fetchWhole("manifest.json").then((answer) => answer.json()),
    fetchWhole("labels.json").then((answer) => answer.json()),
    fetchWhole("tokenizer.model").then((answer) => answer.arrayBuffer()),
    fetchWhole("model.onnx").then((answer) => answer.arrayBuffer()),
  ]);
  const tokenizer = new SentencePieceProcessor();
  await tokenizer.loadFromB64StringModel(toBase64(new Uint8Array(tokenizerBytes)));
  ort.env.wasm.numThreads = 1; // threads want headers that a plain server does not send
  ort.env.wasm.wasmPaths = "/node_modules/onnxruntime-web/dist/";
  const session = await ort.InferenceSession.create(new Uint8Array(graph));
  return async (given) => {
    let ids = tokenizer.encodeIds(given).slice(0, manifest.max_tokens);
    if (ids.length === 0) ids = [1]; // a text without pieces is one unknown piece
    const { probabilities } = await session.run({
      tokens: new ort.Tensor("int32", Int32Array.from(ids), [1, ids.length]),
      lengths: new ort.Tensor("int32", Int32Array.of(ids.length), [1]),
    });
    return [...probabilities.data.keys()]
      .sort((one, other) => probabilities.data[other] - probabilities.data[one])
      .slice(0, 3)
      .map((label) => [labels[label], probabilities.data[label]]);
  };
}

async function show() {
  const given = text.value;
  const start = performance.now();
  const best = await globalThis.classify(given);
  const spent = performance.now() - start;
  if (given !== text.value) return; // typed on meanwhile: a later answer is on its way
  list.replaceChildren(
    ...best.map(([label, probability]) => {
      const item = document.createElement("li");
      const meter = Object.assign(document.createElement("meter"), { value: probability });
      meter.setAttribute("aria-label", label);
      const [name, share] = [label, `${(100 * probability).toFixed(1)} %`].map((content) =>
        Object.assign(document.createElement("span"), { textContent: content }),
      );
      item.append(name, meter, share);
      return item;
    }),
  );
  status.textContent = `${spent.toFixed(1)} ms in this browser`;
}

try {
  globalThis.classify = await load();
  text.disabled = false;
  text.addEventListener("input", show);
  await show();
} catch (error) {
  status.textContent = `The model did not load. ${error.message}`;
  throw error;
}
