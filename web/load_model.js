// Load Sketch Model: a quiet row under the choice that says where the model is, and for one that is not here its
// size, its licence and a button; then how far the download is, or why it failed. The server pushes every change;
// it is asked for the whole state when the page opens, the connection comes back, or R is pressed.
//
// The list of models marks those that are not here, "name (download 12 MB)". What is saved and run is the name.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { after } from "./hooks.js";

const NODE = "SK_LoadModel";
const ROUTE = "/sketchknitter/weights";
const EVENT = "sketchknitter.download";
const MARK = / \(download[^()]*\)$/;
const HEIGHT = 26; // px, of a row
const TALL = 92; // px, of a row with a sentence in it
const MARGIN = 4; // px around a row on the canvas

const known = new Map(); // name or alias -> what the server says of the file
const rows = new Set();
let endings = 0; // of downloads, since the page was opened

const bare = (choice) => String(choice).replace(MARK, "");
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 9.5e6 ? 1 : 0)} MB`;

function element(tag, css, text = "") {
  const made = document.createElement(tag);
  made.style.cssText = css;
  made.textContent = text;
  return made;
}

async function ask(path = "", name = undefined) {
  const options = name === undefined ? {} : { method: "POST", body: JSON.stringify({ name }) };
  const reply = await api.fetchApi(ROUTE + path, { ...options, headers: { "Content-Type": "application/json" } });
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(answer.error ?? `ComfyUI answered ${reply.status}.`);
  return answer;
}

// An answer that was on its way while something ended is out of date.
async function refresh() {
  try {
    let answer, before;
    do {
      before = endings;
      answer = await ask();
    } while (before !== endings);
    for (const entry of answer.weights) for (const name of [entry.name, ...entry.aliases]) known.set(name, entry);
  } catch (error) {
    console.warn("SketchKnitter: what is here of the weights is not known:", error);
  }
  rows.forEach((row) => row.update());
}

class Row {
  constructor(node, choice) {
    [this.node, this.choice] = [node, choice];
    // Clicks beside the button go through to the node: it is dragged as everywhere else.
    this.element = element(
      "div",
      "display:flex;flex-direction:column;justify-content:center;gap:1px;width:100%;box-sizing:border-box;" +
        "padding:0 11px 3px;pointer-events:none;overflow:hidden;font:11px sans-serif;color:var(--descrip-text,#999)",
    );
    this.element.className = "sk-weights";
    this.text = element("div", "flex:1;min-width:0;overflow:hidden;text-overflow:ellipsis");
    this.text.setAttribute("role", "status");
    this.button = element(
      "button",
      "flex:none;pointer-events:auto;cursor:pointer;font:inherit;padding:1px 8px;border-radius:4px;" +
        "border:1px solid var(--border-color,#555);background:var(--comfy-input-bg,#222);color:var(--input-text,#ddd)",
    );
    this.button.type = "button";
    this.button.onclick = () => this.press();
    const line = element("div", "display:flex;align-items:center;gap:6px;min-height:20px");
    line.append(this.text, this.button);
    this.bar = element("div", "height:2px;border-radius:1px;overflow:hidden;background:var(--comfy-input-bg,#222)");
    this.bar.setAttribute("role", "progressbar");
    this.filled = element("div", "height:100%;width:0;background:var(--p-primary-color,#4a9eff)");
    this.bar.append(this.filled);
    this.element.append(line, this.bar);
    this.height = HEIGHT;
  }

  get entry() {
    return known.get(bare(this.choice.value));
  }

  // The choice with the mark that the list gives it today, or without one if the file has come.
  relabel() {
    const here = (name) => ["here", "bundled"].includes(known.get(name)?.state);
    const values = this.choice.options?.values;
    if (!Array.isArray(values)) return;
    const labels = values.map((value) => (here(bare(value)) ? bare(value) : value));
    if (labels.some((label, i) => label !== values[i])) this.choice.options.values = labels;
    const label = labels.find((value) => bare(value) === bare(this.choice.value));
    if (label !== undefined && label !== this.choice.value) this.choice.value = label;
  }

  update() {
    this.relabel();
    const entry = this.entry;
    const download = entry?.download;
    const facts = entry && [entry.bytes && megabytes(entry.bytes), entry.license].filter(Boolean).join(" · ");
    if (!entry) {
      const listed = this.choice.options?.values?.includes?.(this.choice.value);
      this.show(listed ? "your own file" : "no model of this name is here");
    } else if (download?.state === "downloading") {
      const { done, total } = download;
      this.show(total ? `${(done / 1e6).toFixed(total < 9.5e6 ? 1 : 0)} of ${megabytes(total)}` : "downloading", {
        action: "Cancel",
        part: total ? done / total : 0,
      });
    } else if (download?.state === "failed") {
      this.show(download.error, { action: "Try again", tall: true });
    } else if (entry.state === "missing") {
      this.show(`not here yet · ${facts}`, { action: "Download" });
    } else if (entry.state === "unpublished") {
      this.show("not published yet");
    } else {
      this.show(`${entry.state === "bundled" ? "comes with the pack" : "here"} · ${facts}`);
    }
  }

  show(text, { action = null, part = null, tall = false } = {}) {
    this.text.textContent = this.text.title = text;
    this.text.style.whiteSpace = tall ? "normal" : "nowrap";
    // A sentence can be scrolled, and marked to be copied.
    this.text.style.pointerEvents = this.text.style.userSelect = tall ? "auto" : "";
    this.text.style.overflowY = tall ? "auto" : "hidden";
    this.text.style.maxHeight = tall ? `${TALL - 6}px` : "";
    this.button.style.display = action ? "" : "none";
    this.button.textContent = this.action = action;
    this.bar.style.display = part === null ? "none" : "";
    this.filled.style.width = `${100 * (part ?? 0)}%`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * (part ?? 0)));
    // Off screen nothing can be measured.
    const height = tall ? Math.min(Math.max(this.text.scrollHeight || TALL, HEIGHT - 6) + 6, TALL) : HEIGHT;
    if (height !== this.height) {
      this.node.setSize([this.node.size[0], this.node.size[1] + height - this.height]);
      this.height = height;
    }
    this.element.style.minHeight = `${height}px`;
    this.node.setDirtyCanvas?.(true, true);
  }

  async press() {
    const entry = this.entry;
    if (!entry) return;
    this.button.disabled = true;
    try {
      await ask(this.action === "Cancel" ? "/cancel" : "/download", entry.name); // what it does is pushed
    } catch (error) {
      entry.download = { state: "failed", error: error.message };
      rows.forEach((row) => row.update());
    } finally {
      this.button.disabled = false;
    }
  }
}

app.registerExtension({
  name: "SketchKnitter.LoadModel",
  setup() {
    api.addEventListener(EVENT, ({ detail }) => {
      const entry = known.get(detail.name);
      if (!entry) return;
      entry.download = detail;
      rows.forEach((row) => row.update());
      if (detail.state === "downloading") return;
      endings += 1;
      refresh();
    });
    api.addEventListener("reconnected", refresh);
    return refresh();
  },
  refreshComboInNodes: refresh,
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    after(nodeType.prototype, "onNodeCreated", function () {
      const choice = this.widgets?.find((widget) => widget.name === "model");
      if (!choice) return;
      const row = (this.skRow = new Row(this, choice));
      rows.add(row);
      after(choice, "callback", () => row.update());
      choice.serializeValue = () => bare(choice.value);
      const widget = this.addDOMWidget("weights", "sk_weights", row.element, {
        serialize: false,
        hideOnZoom: false,
        margin: MARGIN,
        getMinHeight: () => row.height + 2 * MARGIN,
        getMaxHeight: () => row.height + 2 * MARGIN,
      });
      widget.serialize = false;
      row.update();
    });
    after(nodeType.prototype, "onConfigure", function () {
      this.skRow?.update();
      const height = this.computeSize()[1]; // graphs of before the row have smaller nodes
      if (this.size[1] < height) this.setSize([this.size[0], height]);
    });
    after(nodeType.prototype, "onSerialize", function (saved) {
      const at = this.widgets?.indexOf(this.skRow?.choice) ?? -1;
      if (at < 0) return;
      if (Array.isArray(saved.widgets_values)) saved.widgets_values[at] = bare(saved.widgets_values[at]);
      if (saved.widgets_values_named) saved.widgets_values_named.model = bare(saved.widgets_values_named.model);
    });
    after(nodeType.prototype, "onRemoved", function () {
      rows.delete(this.skRow);
    });
  },
});
