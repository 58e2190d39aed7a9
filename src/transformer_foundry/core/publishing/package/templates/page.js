// The page: progress while the model loads, the form, and the answer.
const WRITERS = { causal_lm: "continues text", seq2seq_lm: "turns one text into another" };
const READERS = {
  masked_lm: "guesses hidden tokens",
  sequence_classification: "labels texts",
  multi_label_classification: "gives texts any number of labels",
  regression: "gives texts a number",
  token_classification: "labels the tokens of a text",
};
const LABELS = { causal_lm: "Text to continue", masked_lm: "Text with hidden tokens" };
const at = (id) => document.getElementById(id);
let model;
let isStopped = false;

function say(message, isBad = false) {
  at("status").textContent = message;
  at("status").classList.toggle("bad", isBad);
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function show(...children) {
  at("answer-body").replaceChildren(...children);
  at("answer").hidden = false;
}

function describe({ manifest, task, text }) {
  const about = { ...WRITERS, ...READERS }[task];
  at("name").textContent = document.title = manifest.model.name;
  const size = manifest.model.parameter_count.toLocaleString("en");
  const article = manifest.model.kind.startsWith("e") ? "An" : "A";
  at("about").textContent = `${article} ${manifest.model.kind} transformer with ${size} parameters that ${about}.`;
  at("text-label").textContent = LABELS[task] ?? "Text";
  const longest = text.maxLength ? `The model reads up to ${text.maxLength} tokens.` : "";
  at("text-hint").textContent = (task === "masked_lm" ? "Write [MASK] for each hidden token. " : "") + longest;
  at("settings").hidden = !(task in WRITERS);
  at("text").value = exampleOf(manifest, task);
}

function exampleOf({ prompt }, task) {
  if (task !== "masked_lm") return prompt.text;
  const words = prompt.text.split(" ");
  words[Math.floor(words.length / 2)] = "[MASK]";
  return words.join(" ");
}

function onProgress(stage, value) {
  if (stage === "manifest") {
    describe(value);
    at("progress").hidden = false;
  }
  if (stage === "manifest" || stage === "bytes") {
    const share = stage === "bytes" ? value : 0;
    at("progress").value = share;
    say(`Loading the model: ${Math.round(100 * share)} %`);
  }
  if (stage === "session") say("Preparing the model.");
}

async function start() {
  if (typeof WebAssembly !== "object") throw new Error("This browser has no WebAssembly; a current one is needed.");
  const started = performance.now();
  const { Model } = await import("./model.js");
  model = await Model.load(onProgress);
  at("progress").hidden = true;
  at("text").disabled = at("run").disabled = false;
  const megabytes = (model.entry.size_bytes / 1e6).toFixed(1);
  at("footer").textContent = `The model (${model.entry.file}, ${megabytes} MB) runs here, in the browser. What you type is sent nowhere.`;
  say(`Ready after ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  return model;
}

async function write(text) {
  const begun = performance.now();
  const old = model.task === "causal_lm" ? text : "";
  const fresh = element("mark");
  show(element("p", { className: "written" }, old, fresh));
  let count = 0;
  const settings = { maxNewTokens: at("tokens").valueAsNumber, temperature: at("temperature").valueAsNumber };
  for await (const step of model.generate(text, settings)) {
    fresh.textContent = step.text;
    count += 1;
    if (isStopped) break;
  }
  if (!count) fresh.textContent = "(the model ended at once)";
  const seconds = (performance.now() - begun) / 1000;
  return `${count} tokens in ${seconds.toFixed(1)} s${isStopped ? ", stopped" : ""}.`;
}

function bar({ token, label, score }) {
  const name = element("code", { textContent: label ?? token.replace(/^ /, "\u2423").replace(/\n/g, "\u23ce") });
  const fill = element("span");
  fill.style.width = `${100 * score}%`;
  const share = element("span", { className: "share", textContent: `${(100 * score).toFixed(score < 0.1 ? 1 : 0)} %` });
  return element("div", { className: "row" }, name, element("div", { className: "bar" }, fill), share);
}

async function read(text) {
  const begun = performance.now();
  if (model.task === "masked_lm") {
    const places = await model.fillMask(text);
    const heading = (number) => element("p", { className: "hint", textContent: `Hidden token ${number + 1}` });
    show(...places.flatMap(({ guesses }, number) => [heading(number), ...guesses.map(bar)]));
  } else {
    const found = await model.classify(text);
    if (model.task === "regression") show(element("p", { textContent: found[0].value.toPrecision(4) }));
    else show(...found.map((item) => bar(item.token ? { ...item, label: `${item.token}: ${item.label}` } : item)));
  }
  return `Answered in ${((performance.now() - begun) / 1000).toFixed(2)} s.`;
}

async function answer() {
  isStopped = false;
  at("run").disabled = true;
  at("stop").hidden = !(model.task in WRITERS);
  at("answer").hidden = true;
  say("Working.");
  try {
    say(await (model.task in WRITERS ? write : read)(at("text").value));
  } catch (error) {
    at("answer").hidden = true;
    say(error.message, true);
  } finally {
    at("run").disabled = false;
    at("stop").hidden = true;
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  window.answered = answer();
});
at("stop").addEventListener("click", () => (isStopped = true));
window.ready = start().catch((error) => {
  at("progress").hidden = true;
  say(error.message || String(error), true);
});
