import * as ort from "./ort/ort.wasm.min.mjs";
import {makeTokenizer} from "./tokenizer.js";

const $ = (id) => document.getElementById(id);
ort.env.wasm.numThreads = 1; // more need headers that a plain server of files does not send
ort.env.wasm.proxy = true; // in a worker, to which buffers are handed over
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;

async function get(path, told = () => {}) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} is not there (${answer.status}); serve the whole folder`);
  const total = Number(answer.headers.get("Content-Length")), parts = [], reader = answer.body.getReader();
  let size = 0;
  for (let part; !(part = await reader.read()).done; told(size, total)) { parts.push(part.value); size += part.value.length; }
  const whole = new Uint8Array(size);
  let place = 0;
  for (const part of parts) { whole.set(part, place); place += part.length; }
  return whole;
}

const json = async (path) => JSON.parse(new TextDecoder().decode(await get(path)));

/** The numbers of an adapter, and what its training said of its outputs. */
async function readAdapter(name) {
  const file = await get(`model/adapters/${encodeURIComponent(name)}.safetensors`), view = new DataView(file.buffer);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start)));
  const [first, last] = header.adapter.data_offsets, told = header.__metadata__;
  const numbers = new Float32Array(file.slice(start + first, start + last).buffer);
  return {name, numbers, bytes: file.length, labels: JSON.parse(told.labels ?? "[]"), kind: told.problem_type};
}

/** What the outputs of one row mean: words, and a share from 0 to 1. */
function read(outputs, {labels, kind}) {
  if (outputs.length === 1 || kind === "regression") return {words: Array.from(outputs, (x) => x.toFixed(2)).join(", "), share: null};
  const several = kind === "multi_label_classification", top = Math.max(...outputs);
  const powers = outputs.map((x) => Math.exp(x - top)), sum = powers.reduce((a, b) => a + b);
  const shares = several ? outputs.map((x) => 1 / (1 + Math.exp(-x))) : powers.map((x) => x / sum);
  const best = shares.indexOf(Math.max(...shares));
  return {words: labels[best] ?? `class ${best}`, share: shares[best]};
}

async function start() {
  const begin = performance.now(), settings = await json("settings.json"), record = await json("model/export.json");
  const tokenize = makeTokenizer(await json("model/tokenizer.json"), settings.max_length);
  const adapters = await Promise.all(settings.adapters.map(readAdapter));
  const graph = await get("model/model.onnx", (size, total) => {
    $("progress").value = total ? size / total : 0;
    $("state").textContent = `loading the model: ${(size / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
  });
  $("state").textContent = "preparing the model…";
  const size = graph.length;
  const session = await ort.InferenceSession.create(graph, {executionProviders: ["wasm"]});
  $("progress").hidden = true;
  const width = record.numbers, table = new Float32Array(width * adapters.length);
  adapters.forEach(({numbers}, k) => table.set(numbers, k * width));
  $("adapter").replaceChildren(...adapters.map(({name}, k) => new Option(name, k)));
  const bytes = adapters.reduce((sum, {bytes}) => sum + bytes, 0) / adapters.length;
  const ready = `the model is ${(size / 1e6).toFixed(1)} MB, each of ${adapters.length} fine-tunes ${(bytes / 1e3).toFixed(1)} kB`;
  $("state").textContent = ready;

  /** The outputs of each of these adapters for one text, in one call. */
  async function ask(text, chosen) {
    const tokens = tokenize(text), count = chosen.length, whole = {
      input_ids: BigInt64Array.from({length: count * tokens.length}, (_, k) => BigInt(tokens[k % tokens.length])),
      attention_mask: new BigInt64Array(count * tokens.length).fill(1n),
      token_type_ids: new BigInt64Array(count * tokens.length),
    };
    const feed = {
      adapters: new ort.Tensor("float32", table.slice(), [adapters.length, width]),
      rows: new ort.Tensor("int64", BigInt64Array.from(chosen, BigInt), [count]),
    };
    for (const name of record.inputs) feed[name] = new ort.Tensor("int64", whole[name], [count, tokens.length]);
    const from = performance.now(), {logits} = await session.run(feed), spent = performance.now() - from;
    const classes = logits.dims[1];
    return {spent, outputs: chosen.map((_, k) => Array.from(logits.data.slice(k * classes, (k + 1) * classes)))};
  }

  const percent = (share) => (share === null ? "" : `${(100 * share).toFixed(0)}%`);

  async function choose(text) {
    const number = Number($("adapter").value), {outputs, spent} = await ask(text, [number]);
    const {words, share} = read(outputs[0], adapters[number]);
    $("answer").textContent = words;
    $("sure").textContent = percent(share);
    $("time").textContent = `${adapters[number].name}, in ${spent.toFixed(0)} ms, nothing loaded`;
  }

  async function all(text) {
    const {outputs, spent} = await ask(text, adapters.map((_, k) => k));
    $("answers").replaceChildren(...adapters.map((adapter, k) => {
      const {words, share} = read(outputs[k], adapter), item = document.createElement("li"), name = document.createElement("span");
      const answer = document.createElement("b"), sure = document.createElement("span");
      name.className = sure.className = "quiet";
      name.textContent = `${adapter.name}: `;
      answer.textContent = words;
      sure.textContent = ` ${percent(share)}`;
      item.dataset.name = adapter.name;
      item.dataset.logits = JSON.stringify(outputs[k]);
      item.append(name, answer, sure);
      if (share !== null) {
        const track = document.createElement("span"), bar = document.createElement("i");
        track.className = "track";
        bar.style.width = percent(share);
        track.append(bar);
        item.append(track);
      }
      return item;
    }));
    $("all").textContent = `${adapters.length} answers in ${spent.toFixed(0)} ms`;
    $("answers").dataset.text = text;
    $("answers").dataset.spent = spent;
  }

  let wanted = null, isBusy = false;
  /** Do the last thing that was wanted; what was wanted meanwhile and is no longer is left out. */
  async function want(what) {
    wanted = what;
    if (isBusy) return;
    isBusy = true;
    try {
      while (wanted) {
        const now = wanted, text = $("text").value;
        wanted = null;
        await choose(text);
        if (now === "all") await all(text);
      }
    } catch (error) { tell(error); } finally { isBusy = false; }
  }

  $("text").addEventListener("input", () => want("all"));
  $("adapter").addEventListener("change", () => want(wanted ?? "one"));
  await want("all");
  $("state").textContent = `${ready}; first answers after ${((performance.now() - begin) / 1000).toFixed(1)} s`;
  document.body.dataset.ready = performance.now() - begin;
}

const tell = (error) => { $("problem").textContent = String(error.message ?? error); };
start().catch(tell);
