// The model of this folder in the browser: text to ids, ONNX Runtime, ids to text. The page is in page.js.
import * as ort from "./ort.wasm.bundle.min.mjs";
import { Tokenizer } from "./tokenizers.min.mjs";

const MASK_WORDS = ["[MASK]", "<mask>"];
const EMPTY = "There is nothing in the text; write at least one word.";
const TOP_K = 40;
// White_Space of Unicode, which the tokenizers library takes before a mask; \s of JavaScript differs.
const BLANK = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
// Only from the first blank of a row: from each of them, a text of blanks takes quadratic time.
const BLANKS = `(?<!${BLANK})${BLANK}*`;
// A file of up to this size is loaded in full precision: its answers are those of the other programs.
const FULL_PRECISION_BYTES = 32e6;
const here = (name) => new URL(name, import.meta.url).href;

// An error in the visitor's input, not in the program.
export class InputError extends Error {}

async function fetchBytes(name, size, onProgress) {
  let response;
  try {
    response = await fetch(here(name));
  } catch (error) {
    throw new Error(`${name} could not be fetched. Is the server still there?`, { cause: error });
  }
  if (!response.ok) throw new Error(`${name} could not be fetched: the server answered ${response.status}.`);
  const total = size || Number(response.headers.get("content-length")) || 0;
  const parts = [];
  let received = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    onProgress?.(total ? Math.min(1, received / total) : 0);
  }
  const bytes = new Uint8Array(received);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function fetchJson(name) {
  try {
    return JSON.parse(new TextDecoder().decode(await fetchBytes(name)));
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error(`${name} is damaged.`, { cause: error });
    throw error;
  }
}

// Of a large model the smallest file (int8) loads fastest; half precision is slow without a graphics card.
function chooseFile(manifest) {
  const files = manifest.formats.filter((entry) => entry.file?.endsWith(".onnx"));
  if (!files.length) throw new Error("This package has no ONNX file.");
  const cache = manifest.native?.cache;
  if (cache?.file && cache.size_bytes <= FULL_PRECISION_BYTES) return cache;
  const exact = files.find((entry) => entry.file === "model.onnx" && entry.size_bytes <= FULL_PRECISION_BYTES);
  if (exact) return exact;
  const isSlow = ({ computes }) => /^b?float16$/.test(computes ?? "");
  return files.sort((one, other) => isSlow(one) - isSlow(other) || one.size_bytes - other.size_bytes)[0];
}

// Converts text to ids and back as the tokenizers library does, with special tokens as ordinary text.
export class Text {
  constructor(manifest, content) {
    this.encoding = manifest.encoding;
    this.task = manifest.model.task;
    this.maxLength = manifest.model.contract.max_length;
    this.maskId = manifest.special_token_ids.mask;
    const special = content.added_tokens.filter((token) => token.special);
    this.names = new Map(special.map((token) => [token.id, token.content]));
    // A special token in the text is ordinary text, as in training.
    const ordinary = { ...content, added_tokens: content.added_tokens.filter((token) => !token.special) };
    this.backend = new Tokenizer(ordinary, { clean_up_tokenization_spaces: false });
    this.unknown = content.model.unk_token == null ? undefined : this.backend.token_to_id(content.model.unk_token);
    this.hasBytes = content.model.type === "Unigram" && content.model.byte_fallback;
    if (this.hasBytes) this.unknown = content.model.unk_id;
    this.unknown ??= special.find((token) => token.content === content.model.unk_token)?.id;
  }

  plainIds(text) {
    if (!text) return [];
    const { ids, tokens } = this.backend.encode(text, { add_special_tokens: false });
    return ids.flatMap((id, at) => this.bytesOf(id, tokens[at]) ?? id ?? this.unknown ?? []);
  }

  // A unigram model writes unknown text as its bytes, which the JavaScript library leaves out.
  bytesOf(id, token) {
    if (!this.hasBytes || id !== this.unknown) return undefined;
    const name = (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    const ids = Array.from(new TextEncoder().encode(token), (byte) => this.backend.token_to_id(name(byte)));
    return ids.includes(undefined) ? undefined : ids;
  }

  frame(ids) {
    const { prefix, suffix } = this.encoding;
    if (!ids.length) throw new InputError(EMPTY);
    if (this.maxLength === null) return this.shortEnough([...prefix, ...ids, ...suffix]);
    if (this.task === "causal_lm") return [...prefix, ...ids].slice(-this.maxLength);
    const room = Math.max(0, this.maxLength - prefix.length - suffix.length);
    return [...prefix, ...ids.slice(0, room), ...suffix].slice(0, this.maxLength);
  }

  // Memory and time of a model without a limit grow with the square of the length.
  shortEnough(ids) {
    const [found, longest] = [ids.length, this.encoding.longest_text].map((count) => count.toLocaleString("en"));
    if (ids.length <= this.encoding.longest_text) return ids;
    throw new InputError(
      `The text has ${found} tokens, but this model was trained and verified with at most ${longest}; send a shorter text.`,
    );
  }

  encode(text) {
    return this.frame(this.plainIds(text));
  }

  hiddenIds(text) {
    if (this.maskId === null) throw new InputError("This model has no token that hides another.");
    if (!text) throw new InputError(EMPTY);
    const words = [...new Set([...MASK_WORDS, this.encoding.mask_text])].filter(Boolean);
    const quoted = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
    const parts = text.split(new RegExp(`${this.encoding.mask_takes_space ? BLANKS : ""}(?:${quoted})`));
    if (parts.length === 1) throw new InputError("No token is hidden; write [MASK] where the model shall guess.");
    const ids = this.frame(parts.flatMap((part, at) => [...(at ? [this.maskId] : []), ...this.plainIds(part)]));
    if (!ids.includes(this.maskId))
      throw new InputError(`The hidden token is beyond the ${this.maxLength} tokens that the model reads.`);
    return ids;
  }

  decode(ids) {
    const known = ids.filter((id) => !this.names.has(id) && this.backend.id_to_token(id) !== undefined);
    return known.length ? this.backend.decode(known, { skip_special_tokens: false }) : "";
  }

  token(id) {
    return this.decode([id]) || this.names.get(id) || "";
  }
}

export class Model {
  static async load(onProgress) {
    const [manifest, content] = await Promise.all([fetchJson("manifest.json"), fetchJson("tokenizer.json")]);
    const model = new Model();
    Object.assign(model, { manifest, task: manifest.model.task, special: manifest.special_token_ids });
    model.text = new Text(manifest, content);
    model.entry = chooseFile(manifest);
    onProgress?.("manifest", model);
    ort.env.wasm.numThreads = 1;
    // Fetched here, so that an error names a missing file.
    const runtime = fetchBytes("ort-wasm-simd-threaded.wasm");
    runtime.catch(() => {}); // reported when it is awaited
    const bytes = await fetchBytes(model.entry.file, model.entry.size_bytes, (share) => onProgress?.("bytes", share));
    onProgress?.("session");
    ort.env.wasm.wasmBinary = await runtime;
    model.session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return model;
  }

  async logits(ids, decoderIds) {
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const ones = (values) => tensor(values.map(() => 1));
    const given = { input_ids: () => tensor(ids), attention_mask: () => ones(ids) };
    if (decoderIds) {
      given.decoder_input_ids = () => tensor(decoderIds);
      given.decoder_attention_mask = () => ones(decoderIds);
    }
    const feeds = Object.fromEntries(this.session.inputNames.map((name) => [name, given[name]()]));
    const output = (await this.session.run(feeds))[this.session.outputNames[0]];
    const width = output.dims.at(-1);
    const rows = output.data.length / width;
    return { count: rows, isSequence: output.dims.length > 2, row: (at) => output.data.subarray(at * width, (at + 1) * width) };
  }

  // Logits after a row, of which all tokens but the last are in the cache unless it is null.
  async step(row, past) {
    const ids = past ? row.slice(-1) : row;
    const feeds = {
      input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
      past: past ?? new ort.Tensor("float32", new Float32Array(0), this.entry.past),
    };
    const { logits, present } = await this.session.run(feeds);
    const width = logits.dims.at(-1);
    return { count: ids.length, present, row: (at) => logits.data.subarray(at * width, (at + 1) * width) };
  }

  // Yields { token, text } after each new token; text is all text so far.
  async *generate(text, { maxNewTokens = 40, temperature = 0.8, topK = TOP_K } = {}) {
    const source = this.text.encode(text);
    const longest = this.text.maxLength;
    const written = [];
    let past = null;
    const isPair = this.task === "seq2seq_lm";
    const limit = isPair && longest !== null ? Math.min(maxNewTokens, longest) : maxNewTokens;
    while (written.length < limit) {
      const seen = longest === null ? [...source, ...written] : [...source, ...written].slice(-longest);
      const found = isPair
        ? await this.logits(source, [this.special.decoder_start ?? 0, ...written])
        : this.entry.past
          ? await this.step(seen, seen.length === source.length + written.length ? past : null)
          : await this.logits(seen);
      past = found.present ?? null;
      const token = draw(found.row(found.count - 1), temperature, topK);
      if (token === this.special.eos) return;
      written.push(token);
      yield { token, text: this.text.decode(written) };
      // The page is drawn between two tokens.
      await new Promise((resume) => setTimeout(resume));
    }
  }

  // [{ position, guesses: [{ token, id, score }] }], one for each hidden token.
  async fillMask(text, topK = 5) {
    const ids = this.text.hiddenIds(text);
    const found = await this.logits(ids);
    const places = ids.flatMap((id, at) => (id === this.special.mask ? [at] : []));
    const named = ([id, score]) => ({ token: this.text.token(id), id, score });
    return places.map((at) => ({ position: at, guesses: likeliest(found.row(at), topK).map(named) }));
  }

  // [{ label, score }] of the text, [{ value }] of a regression, or [{ token, label, score }] of each token.
  async classify(text, topK = 5) {
    const ids = this.text.encode(text);
    const found = await this.logits(ids);
    const label = (at) => this.manifest.label_names?.[at] ?? String(at);
    if (this.task === "regression") return [{ value: found.row(0)[0] }];
    if (this.task === "multi_label_classification")
      return applying(found.row(0), topK).map(([at, score]) => ({ label: label(at), score }));
    if (!found.isSequence) return likeliest(found.row(0), topK).map(([at, score]) => ({ label: label(at), score }));
    return ids.map((id, position) => {
      const [[at, score]] = likeliest(found.row(position), 1);
      return { token: this.text.token(id), label: label(at), score };
    });
  }
}

function likeliest(logits, count) {
  const largest = logits.reduce((one, other) => Math.max(one, other), -Infinity);
  const shares = Float64Array.from(logits, (value) => Math.exp(value - largest));
  const sum = shares.reduce((one, other) => one + other, 0);
  const order = Array.from(shares.keys()).sort((one, other) => shares[other] - shares[one] || one - other);
  return order.slice(0, count).map((at) => [at, shares[at] / sum]);
}

// Each label applies or not, whatever the others do.
function applying(logits, count) {
  const shares = Float64Array.from(logits, (value) => 1 / (1 + Math.exp(-value)));
  const order = Array.from(shares.keys()).sort((one, other) => shares[other] - shares[one] || one - other);
  return order.slice(0, count).map((at) => [at, shares[at]]);
}

function draw(logits, temperature, topK) {
  if (temperature === 0) return logits.reduce((best, value, at) => (value > logits[best] ? at : best), 0);
  const order = Array.from(logits.keys()).sort((one, other) => logits[other] - logits[one] || one - other);
  const kept = order.slice(0, topK);
  const shares = kept.map((at) => Math.exp((logits[at] - logits[kept[0]]) / temperature));
  let left = Math.random() * shares.reduce((one, other) => one + other, 0);
  return kept.find((_, at) => (left -= shares[at]) <= 0) ?? kept[0];
}
